// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
// The Segment Routing Header (RFC 8754 section 2) of a packet whose destination is a SID of ours.
#ifndef SRV6DMM_SRH_H
#define SRV6DMM_SRH_H

#include "parse.h"

#define SRH_TYPE 4

struct routing {
    u32 present;
    u32 length; // octets of the SRH, 0 without one
    u32 left;   // Segments Left
    u32 next_header;
};

// Whatever is not a plain, consistent SRH is the kernel's: it knows HMAC, flags and other headers.
static __always_inline u32 parse_routing(struct __sk_buff *skb, const struct packet *packet,
                                         struct routing *routing)
{
    u32 at = packet->offset + sizeof(struct ipv6hdr);
    struct {
        u8 next_header, length, type, left, last_entry, flags;
        __be16 tag;
    } header, *found;

    routing->present = 0;
    routing->length = 0;
    routing->left = 0;
    routing->next_header = packet->next_header;
    if (packet->next_header == IPPROTO_FRAGMENT)
        return REASON_FRAGMENT;
    if (packet->next_header == IPPROTO_HOPOPTS || packet->next_header == IPPROTO_DSTOPTS)
        return REASON_EXTENSIONS;
    if (packet->next_header != IPPROTO_ROUTING)
        return 0;
    if (packet->length < sizeof(struct ipv6hdr) + sizeof(header) ||
        !reach(skb, at + sizeof(header)))
        return REASON_TRUNCATED;
    found = at_offset(skb, at);
    if ((void *)(found + 1) > data_end(skb))
        return REASON_TRUNCATED;
    header = *found;
    if (header.type != SRH_TYPE)
        return REASON_EXTENSIONS;
    routing->present = 1;
    routing->length = 8 * (header.length + 1);
    routing->left = header.left;
    routing->next_header = header.next_header;
    if (packet->length < sizeof(struct ipv6hdr) + routing->length)
        return REASON_TRUNCATED;
    // RFC 8754 section 4.3.1.1: max_LE = Hdr Ext Len / 2 - 1.
    if (header.last_entry + 1 > header.length / 2 || header.left > header.last_entry + 1)
        return REASON_BAD_SRH;
    if (header.length > 2 * (header.last_entry + 1))
        return REASON_SRH_TLV;
    if (header.flags)
        return REASON_SRH_FLAGS;
    if (routing->next_header == IPPROTO_FRAGMENT)
        return REASON_FRAGMENT;
    if (routing->next_header == IPPROTO_HOPOPTS || routing->next_header == IPPROTO_DSTOPTS ||
        routing->next_header == IPPROTO_ROUTING)
        return REASON_EXTENSIONS;
    return 0;
}

#endif
