in Surface surface;
flat in vec2 f_tags;  // layer, instance id
out vec2 seen;        // distance along the viewing axis [m], instance id + 1 (0: nothing)

void main() {
    seen = vec2(surface.depth, f_tags.y + 1.0);
}
