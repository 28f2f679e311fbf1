// What the shaders know of each scene of a batch; one layer of every target per scene.
// SCENES is set by the program: the most scenes drawn at once.
struct SceneData {
    vec4 light;       // direction towards the light (world); intensity
    vec4 eye;         // position [m] (world); ambient
    vec4 background;  // linear colour; width of a shadow texel [m]
    vec4 shadow[3];   // rows of shadow_from_world: column, row and depth, each in [0, 1] inside the map
};
layout(std140) uniform Scenes { SceneData scenes[SCENES]; };
