in Surface surface;
flat in vec2 f_tags;  // layer, instance id
#ifdef TEXTURED
uniform sampler2D albedo_map;
#endif
uniform sampler2DArrayShadow shadow_map;  // stays at texture unit 0
#ifdef GLOSSY
uniform vec2 highlight;  // strength, exponent
#endif
out vec4 linear_colour;

// Share of the light that arrives: 3 x 3 texels under a tent, as four bilinear comparisons. Outside the map all does.
float lit(vec3 at, float layer) {
    float h = 0.5 * SHADOW_TEXEL;
    float depth = min(at.z, 1.0);
    if (any(greaterThan(abs(at.xy - 0.5), vec2(0.5)))) return 1.0;
    return 0.25 * (texture(shadow_map, vec4(at.xy + vec2(-h, -h), layer, depth))
                 + texture(shadow_map, vec4(at.xy + vec2( h, -h), layer, depth))
                 + texture(shadow_map, vec4(at.xy + vec2(-h,  h), layer, depth))
                 + texture(shadow_map, vec4(at.xy + vec2( h,  h), layer, depth)));
}

void main() {
    SceneData s = scenes[int(f_tags.x)];
    vec3 n = normalize(surface.normal);
#ifdef TWO_SIDED
    if (!gl_FrontFacing) n = -n;
#endif
    vec3 albedo = surface.albedo;
#ifdef TEXTURED
    albedo *= texture(albedo_map, surface.uv).rgb;
#endif
    float cosine = dot(n, s.light.xyz);
    float arriving = s.light.w * lit(surface.shadow, f_tags.x);
    vec3 colour = albedo * (s.eye.w + arriving * max(0.0, cosine));
#ifdef GLOSSY
    vec3 h = normalize(s.light.xyz + normalize(s.eye.xyz - surface.position));
    // pow(0, x) is undefined in GLSL, hence the small floor.
    if (cosine > 0.0) colour += highlight.x * arriving * pow(max(dot(n, h), 1e-6), highlight.y);
#endif
    linear_colour = vec4(clamp(colour, 0.0, 1.0), 1.0);
}
