// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
// From a packet to its steering entry: the flow, then the /64, then the longest foreign prefix.
#ifndef SRV6DMM_CLASSIFY_H
#define SRV6DMM_CLASSIFY_H

#include "parse.h"

static __always_inline struct steer *flow_of(struct __sk_buff *skb, struct packet *packet)
{
    struct flow_key key = {.source = packet->source, .destination = packet->destination};
    u32 protocol, at;

    if (!upper_layer(skb, packet, &protocol, &at))
        return 0;
    key.protocol = protocol;
    if (protocol == IPPROTO_TCP || protocol == IPPROTO_UDP || protocol == IPPROTO_SCTP ||
        protocol == IPPROTO_DCCP || protocol == IPPROTO_UDPLITE) {
        if (at + 4 > packet->offset + packet->length ||
            bpf_skb_load_bytes(skb, at, &key.source_port, 4))
            return 0;
    }
    return flows.lookup(&key);
}

// Whether flow rules speak of a prefix's packets in a direction.
static __always_inline int is_ruled(u64 prefix, u32 uplink)
{
    struct ruled_key key = {.prefix = prefix, .uplink = uplink};

    return ruled.lookup(&key) != 0;
}

static __always_inline struct steer *steer_of(struct __sk_buff *skb, struct packet *packet,
                                              const struct config *settings)
{
    struct steer *found;

    if (settings->has_flows & FLOWS_EXACT) {
        found = flow_of(skb, packet);
        if (found)
            return found;
    }
    u64 prefix = packet->destination.high;
    found = prefixes.lookup(&prefix);
    if (!found && settings->has_foreign) {
        struct foreign_key key = {.length = 128};

        __builtin_memcpy(key.address, &packet->destination, 16);
        found = foreign.lookup(&key);
    }
    return found;
}

#endif
