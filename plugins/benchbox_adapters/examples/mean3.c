/* The mean of 3x3 pixels as a program for `command`: cc -O2 -o mean3 mean3.c
 * benchbox run 'command:run="./mean3 {in} {out}"' --noise gaussian:0.1
 * A .npy file of float32 is 10 bytes, the last two the length of a text that holds the shape, that text, and the pixels. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(int argc, char **argv)
{
    unsigned char head[10 + 65536];
    FILE *in = argc > 2 ? fopen(argv[1], "rb") : NULL, *out = argc > 2 ? fopen(argv[2], "wb") : NULL;
    if (!in || !out || fread(head, 1, 10, in) != 10) return fprintf(stderr, "usage: mean3 IN.npy OUT.npy\n"), 2;
    size_t text = head[8] + 256 * head[9];
    int height, width;
    if (fread(head + 10, 1, text, in) != text) return 3;
    head[10 + text] = 0;
    char *shape = strstr((char *)head + 10, "'shape': (");
    if (!shape || sscanf(shape, "'shape': (%d, %d)", &height, &width) != 2) return fprintf(stderr, "not an image\n"), 3;
    float *noisy = malloc(sizeof(float) * height * width), *mean = malloc(sizeof(float) * height * width);
    if (fread(noisy, sizeof(float), height * width, in) != (size_t)(height * width)) return 3;
    for (int y = 0; y < height; y++)
        for (int x = 0; x < width; x++) {
            float sum = 0;
            int count = 0;
            for (int v = y > 0 ? y - 1 : 0; v <= y + 1 && v < height; v++)
                for (int u = x > 0 ? x - 1 : 0; u <= x + 1 && u < width; u++, count++) sum += noisy[v * width + u];
            mean[y * width + x] = sum / count;
        }
    fwrite(head, 1, 10 + text, out); /* the result has the same type and shape */
    fwrite(mean, sizeof(float), height * width, out);
    return fclose(out) != 0;
}
