// Chooses the layer where the vertex stage may not.
layout(triangles) in;
layout(triangle_strip, max_vertices = 3) out;
in Surface v_surface[];
flat in vec2 v_tags[];
out Surface surface;
flat out vec2 f_tags;

void main() {
    for (int i = 0; i < 3; i++) {
        gl_Position = gl_in[i].gl_Position;
        gl_Layer = int(v_tags[i].x);
        surface = v_surface[i];
        f_tags = v_tags[i];
        EmitVertex();
    }
    EndPrimitive();
}
