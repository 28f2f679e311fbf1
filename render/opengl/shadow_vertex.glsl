void main() {
    SceneData s = scenes[int(tags.x)];
    vec4 p = vec4(world_position(), 1.0);
    gl_Position = vec4(2.0 * vec3(dot(s.shadow[0], p), dot(s.shadow[1], p), dot(s.shadow[2], p)) - 1.0, 1.0);
    send_to_layer();
    SURFACE.depth = 0.0;
}
