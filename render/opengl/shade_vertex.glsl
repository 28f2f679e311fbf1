in vec3 normal;
in vec3 colour;
#ifdef TEXTURED
in vec2 uv;
#endif

void main() {
    SceneData s = scenes[int(tags.x)];
    vec3 p = world_position();
    // world_from_object is a rotation times one factor: it turns normals as well.
    vec3 n = normalize(vec3(dot(world_x.xyz, normal), dot(world_y.xyz, normal), dot(world_z.xyz, normal)));
    gl_Position = clip_position();
    send_to_layer();
    SURFACE.position = p;
    SURFACE.normal = n;
    SURFACE.albedo = colour * tint;
#ifdef TEXTURED
    SURFACE.uv = uv;
#endif
    // A surface must not shade itself. Looking the shadow up a little off the surface, further the more the light
    // grazes it, needs less depth bias than biasing depth alone, and so keeps shadows in touch with their casters.
    vec3 l = s.light.xyz;
    float cosine = dot(n, l);
#ifdef TWO_SIDED
    n *= cosine < 0.0 ? -1.0 : 1.0;
#endif
    float sine = sqrt(max(0.0, 1.0 - cosine * cosine));
    vec4 q = vec4(p + s.background.w * (NORMAL_BIAS * sine * n + LIGHT_BIAS * l), 1.0);
    SURFACE.shadow = vec3(dot(s.shadow[0], q), dot(s.shadow[1], q), dot(s.shadow[2], q));
}
