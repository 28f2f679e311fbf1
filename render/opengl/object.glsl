// One object: its mesh's vertices and, per instance, where it stands. Shared by the three vertex shaders.
in vec3 position;
in vec4 clip_x, clip_y, clip_z, clip_w;  // rows of clip_from_object
in vec4 world_x, world_y, world_z;       // rows of world_from_object
in vec3 tint;                            // linear colour
in vec2 tags;                            // layer, instance id

// With a geometry stage the vertex stage hands over to it, under other names.
#ifdef GEOMETRY_STAGE
#define SURFACE v_surface
#define TAGS v_tags
#else
#define SURFACE surface
#define TAGS f_tags
#endif
out Surface SURFACE;
flat out vec2 TAGS;

void send_to_layer() {
    TAGS = tags;
#ifndef GEOMETRY_STAGE
    gl_Layer = int(tags.x);
#endif
}

vec4 clip_position() {
    vec4 p = vec4(position, 1.0);
    return vec4(dot(clip_x, p), dot(clip_y, p), dot(clip_z, p), dot(clip_w, p));
}

vec3 world_position() {
    vec4 p = vec4(position, 1.0);
    return vec3(dot(world_x, p), dot(world_y, p), dot(world_z, p));
}
