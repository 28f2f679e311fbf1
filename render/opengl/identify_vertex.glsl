out float f_depth;
flat out float f_instance;

void main() {
    gl_Position = clip_position();
    gl_Layer = int(tags.x);
    f_depth = gl_Position.w;
    f_instance = tags.y;
}
