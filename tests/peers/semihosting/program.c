/* A program that uses its host by picolibc: command line, console, files, time, exit code. Its output depends on nothing
 * but its command line and its input. */

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static char buffer[100000];
static char copy[sizeof(buffer)];

static void fail(const char *what)
{
    printf("FAILED: %s: %s\n", what, strerror(errno));
    exit(1);
}

/* Through the C library's streams. */
static void streams(void)
{
    FILE *file = fopen("stream.txt", "w");
    if (!file)
        fail("fopen for writing");
    for (int line = 0; line < 1000; line++)
        fprintf(file, "line %d: %s\n", line, line % 7 ? "text" : "a longer text");
    if (fclose(file))
        fail("fclose");
    file = fopen("stream.txt", "r");
    if (!file)
        fail("fopen for reading");
    unsigned long sum = 0, count = 0;
    for (int c; (c = getc(file)) != EOF; count++)
        sum = sum * 31 + (unsigned char)c;
    if (fseek(file, 10, SEEK_SET) || !fgets(buffer, sizeof(buffer), file))
        fail("fseek");
    fclose(file);
    printf("stream: %lu bytes, sum %lx, from the tenth on: %s", count, sum, buffer);
}

/* Through file descriptors, in one piece that is larger than any buffer. */
static void descriptors(void)
{
    for (size_t index = 0; index < sizeof(buffer); index++)
        buffer[index] = (char)(index * 7 + index / 1000);
    int file = open("data.bin", O_WRONLY | O_CREAT | O_TRUNC, 0666);
    if (file < 0)
        fail("open for writing");
    printf("written: %ld\n", (long)write(file, buffer, sizeof(buffer)));
    close(file);
    file = open("data.bin", O_RDONLY);
    if (file < 0)
        fail("open for reading");
    long count = (long)read(file, copy, sizeof(copy));
    printf("read: %ld, then %ld, %s\n", count, (long)read(file, copy, 1), memcmp(buffer, copy, sizeof(copy)) ? "differs" : "the same");
    printf("lseek: %ld\n", (long)lseek(file, 5000, SEEK_SET));
    printf("behind: %ld\n", (long)read(file, copy, sizeof(copy)));
    close(file);
    printf("missing: %d\n", open("missing.txt", O_RDONLY));
    printf("unlink: %d, again %d\n", unlink("data.bin"), unlink("data.bin"));
}

int main(int argc, char **argv)
{
    printf("hello, %d arguments:", argc);
    for (int index = 0; index < argc; index++)
        printf(" [%s]", argv[index]);
    printf("\n");
    streams();
    descriptors();
    struct timeval now;
    gettimeofday(&now, NULL);
    printf("time: %s\n", now.tv_sec > 1700000000 ? "plausible" : "wrong");
    printf("input:");
    for (int c; (c = getchar()) != '.';)
        printf(" %c", c);
    printf("\nbye\n");
    return argc > 2 ? atoi(argv[2]) : 1;
}
