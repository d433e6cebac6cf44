// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
// What became of a packet: a verdict and the one reason it is counted under.
#ifndef SRV6DMM_RESULT_H
#define SRV6DMM_RESULT_H

#include <uapi/linux/pkt_cls.h>

#include "maps.h"

#define RESULT(verdict, reason) ((verdict) << 8 | (reason))
#define TO_KERNEL(reason) RESULT(TC_ACT_OK, reason)
#define DROP(reason) RESULT(TC_ACT_SHOT, reason)

static __always_inline int conclude(u32 result)
{
    u32 reason = result & 0xff;
    u64 *count = reasons.lookup(&reason);

    if (count)
        *count += 1;
    return result >> 8;
}

// The result of a redirect helper: when it refuses, the packet is already changed and goes on to
// the kernel's routing, which takes it where its (outer) destination says.
static __always_inline u32 redirected(long verdict, u32 reason)
{
    if (verdict != TC_ACT_REDIRECT)
        return TO_KERNEL(REASON_REDIRECT_FAILED);
    return RESULT(TC_ACT_REDIRECT, reason);
}

static __always_inline void count(u32 index, u32 bytes)
{
    struct counter *counter;

    if (!index)
        return;
    counter = counters.lookup(&index);
    if (!counter)
        return;
    counter->packets += 1;
    counter->bytes += bytes;
    counter->last = bpf_jiffies64();
}

#endif
