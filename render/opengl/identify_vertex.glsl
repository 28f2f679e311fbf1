void main() {
    gl_Position = clip_position();
    send_to_layer();
    SURFACE.depth = gl_Position.w;
}
