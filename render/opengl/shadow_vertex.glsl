void main() {
    int layer = int(tags.x);
    SceneData s = scenes[layer];
    vec4 p = vec4(world_position(), 1.0);
    gl_Position = vec4(2.0 * vec3(dot(s.shadow[0], p), dot(s.shadow[1], p), dot(s.shadow[2], p)) - 1.0, 1.0);
    gl_Layer = layer;
}
