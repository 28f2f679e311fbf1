// What the shaders know of each scene of a batch; one layer of every target per scene.
// SCENES is set by the program: the most scenes drawn at once.
struct SceneData {
    vec4 light;       // direction towards the light (world); intensity
    vec4 eye;         // position [m] (world); ambient
    vec4 background;  // linear colour; width of a shadow texel [m]
    vec4 shadow[3];   // rows of shadow_from_world: column, row and depth, each in [0, 1] inside the map
};
layout(std140) uniform Scenes { SceneData scenes[SCENES]; };

// What a vertex tells the fragments.
struct Surface {
#ifdef SHADE
    vec3 position;  // [m] (world)
    vec3 normal;    // (world)
    vec3 albedo;
    vec3 shadow;    // place in the shadow map
#ifdef TEXTURED
    vec2 uv;
#endif
#else
    float depth;    // distance along the viewing axis [m]
#endif
};
