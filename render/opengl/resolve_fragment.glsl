// Averages the samples of each pixel in linear light and encodes. The target holds the pictures one under another.
uniform sampler2DArray colours;  // linear, premultiplied: alpha 0 where nothing is
uniform sampler2DArray seen;
uniform int height;
layout(location = 0) out vec4 picture;  // sRGB colour, depth [m]
layout(location = 1) out int instance;

vec3 encoded(vec3 x) {
    return mix(12.92 * x, 1.055 * pow(max(x, vec3(1e-9)), vec3(1.0 / 2.4)) - 0.055, greaterThan(x, vec3(0.0031308)));
}

void main() {
    int layer = int(gl_FragCoord.y) / height;
    ivec2 pixel = ivec2(int(gl_FragCoord.x), int(gl_FragCoord.y) - layer * height);
    vec4 sum = vec4(0.0);
    for (int i = 0; i < SAMPLES; i++)
        for (int j = 0; j < SAMPLES; j++)
            sum += texelFetch(colours, ivec3(pixel * SAMPLES + ivec2(j, i), layer), 0);
    vec4 mean = sum / float(SAMPLES * SAMPLES);
    vec3 x = mean.rgb + (1.0 - mean.a) * clamp(scenes[layer].background.rgb, 0.0, 1.0);
    vec2 what = texelFetch(seen, ivec3(pixel, layer), 0).xy;
    instance = int(what.y) - 1;
    picture = vec4(clamp(encoded(x), 0.0, 1.0), what.y > 0.0 ? what.x : uintBitsToFloat(0x7f800000u));
}
