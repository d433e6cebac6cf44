// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
// Arrivals: what a mobile node sends first becomes an event, at most one per node and gap.
#ifndef SRV6DMM_DETECT_H
#define SRV6DMM_DETECT_H

#include "parse.h"

// Of all nodes together so many events in a gap, below what the ring buffer holds: addresses are
// free to whoever makes them up. In `quiet` under a key that no link-layer address is, as the time
// the gap began (milliseconds) and a count. Lost updates of other CPUs do not matter.
#define TOGETHER (1ULL << 48)
#define MOST_EVENTS 256
#define COUNT_BITS 16

static __always_inline int is_flood(u64 now, u32 gap)
{
    u64 key = TOGETHER;
    u64 *seen = quiet.lookup(&key);
    u64 next = now << COUNT_BITS | 1;

    if (seen && now - (*seen >> COUNT_BITS) < gap) {
        if ((*seen & ((1 << COUNT_BITS) - 1)) >= MOST_EVENTS)
            return 1;
        next = *seen + 1;
    }
    quiet.update(&key, &next);
    return 0;
}

static __always_inline void tell(struct __sk_buff *skb, const struct packet *packet,
                                 const struct config *settings, u32 kind, const void *address)
{
    struct event event = {.kind = kind, .ifindex = packet->ifindex, .vlan = packet->vlan};
    u64 now = bpf_ktime_get_ns() / 1000000;
    u64 node = 0;
    u64 *last;

    __builtin_memcpy(&node, packet->mac, ETH_ALEN);
    last = quiet.lookup(&node);
    if (last && now - *last < settings->event_gap_ms)
        return;
    if (is_flood(now, settings->event_gap_ms))
        return;
    __builtin_memcpy(event.mac, packet->mac, ETH_ALEN);
    __builtin_memcpy(event.address, address, 16);
    // An event that found no room is not told: the node's next packet is.
    if (!events.ringbuf_output(&event, sizeof(event), 0))
        quiet.update(&node, &now);
}

// Router Solicitations, and Neighbour Solicitations of duplicate address detection (RFC 4861,
// RFC 4862): both are what a node sends that has just come up on a link.
static __always_inline void detect_neighbour_discovery(struct __sk_buff *skb,
                                                       const struct packet *packet,
                                                       const struct config *settings)
{
    u8 message[24]; // an ICMPv6 header and the target of a solicitation
    u32 at = packet->offset + sizeof(struct ipv6hdr);

    if (packet->next_header != IPPROTO_ICMPV6 || packet->hop_limit != 255 ||
        packet->length < sizeof(struct ipv6hdr) + 8 || bpf_skb_load_bytes(skb, at, message, 8))
        return;
    if (message[0] == 133) {
        tell(skb, packet, settings, EVENT_SOLICITATION, &packet->source);
    } else if (message[0] == 135 && !packet->source.high && !packet->source.low &&
               packet->length >= sizeof(struct ipv6hdr) + sizeof(message) &&
               !bpf_skb_load_bytes(skb, at, message, sizeof(message))) {
        tell(skb, packet, settings, EVENT_DAD, message + 8);
    }
}

#endif
