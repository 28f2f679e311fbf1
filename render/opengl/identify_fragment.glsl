in float f_depth;
flat in float f_instance;
out vec2 seen;  // distance along the viewing axis [m], instance id + 1 (0: nothing)

void main() {
    seen = vec2(f_depth, f_instance + 1.0);
}
