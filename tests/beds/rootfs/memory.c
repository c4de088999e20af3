/* memory fill|churn MIB: occupies memory with pages that no migration or save can skip, then sleeps, or rewrites it for ever. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { WORDS = 512 };

int main(int argc, char **argv)
{
    if (argc != 3)
        return 2;
    size_t bytes = strtoull(argv[2], NULL, 10) << 20;
    uint64_t *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
        perror("memory");
        return 1;
    }
    madvise(memory, bytes, MADV_HUGEPAGE);

    uint64_t seed = 88172645463325252u, pattern[WORDS];
    for (int i = 0; i < WORDS; i++) {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        pattern[i] = seed | 1;
    }
    for (uint64_t round = 0;; round++) {
        for (size_t page = 0; page < bytes / sizeof pattern; page++) {
            memcpy(memory + page * WORDS, pattern, sizeof pattern);
            memory[page * WORDS] = round << 32 | page | 1;
        }
        if (round == 0) {
            puts("FILLED");
            fflush(stdout);
        }
        if (strcmp(argv[1], "churn") != 0)
            for (;;)
                pause();
    }
}
