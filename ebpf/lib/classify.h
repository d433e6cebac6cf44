// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
// From a packet to its prefix's steering entry: the /64, then the longest foreign prefix.
#ifndef SRV6DMM_CLASSIFY_H
#define SRV6DMM_CLASSIFY_H

#include "parse.h"

static __always_inline struct steer *steer_of(const struct packet *packet,
                                              const struct config *settings)
{
    u64 prefix = packet->destination.high;
    struct steer *found = prefixes.lookup(&prefix);

    if (!found && settings->has_foreign) {
        struct foreign_key key = {.length = 128};

        __builtin_memcpy(key.address, &packet->destination, 16);
        found = foreign.lookup(&key);
    }
    return found;
}

#endif
