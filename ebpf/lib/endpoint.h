// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
// Endpoints that send a packet on: End, End.X (RFC 8986 sections 4.1, 4.2), End.MAP (RFC 9433
// section 6.2), and late packets of a node that has moved on. All of them write another
// destination into the outer header in place: no room is moved, whatever the packet's size.
#ifndef SRV6DMM_ENDPOINT_H
#define SRV6DMM_ENDPOINT_H

#include "forward.h"
#include "srh.h"

// In place and directly: see write_outer. What the kernel's routes are to send on (`routed`) keeps
// its hop limit: they decrement it, and once is what RFC 8986 section 4.1 says.
static __always_inline int redestine(struct __sk_buff *skb, const struct packet *packet,
                                     const struct in6 *destination, int routed)
{
    struct ipv6hdr *ip = data_of(skb) + ETHERNET;

    if ((void *)(ip + 1) > data_end(skb))
        return -1;
    if (!routed)
        ip->hop_limit = packet->hop_limit - 1;
    __builtin_memcpy(&ip->daddr, destination, 16);
    return 0;
}

// The number of the next hop towards a destination, 0 where the kernel's routes know it alone.
static __always_inline u32 hop_towards(const struct in6 *destination, const struct config *settings)
{
    u32 length = settings->locator_length;
    u64 locator = bpf_ntohll(destination->high) >> ((64 - length) & 63);
    u32 *found;

    if (!length)
        return 0;
    found = routes.lookup(&locator);
    return found ? *found : 0;
}

// A SID without a next hop of its own goes where its new destination leads.
static __always_inline u32 hop_of(const struct sid *sid, const struct in6 *destination,
                                  const struct config *settings)
{
    u32 number = sid->ifindex ? sid->hop : hop_towards(destination, settings);
    struct hop *hop = hops.lookup(&number);

    return hop && hop->state != HOP_UNKNOWN ? number : 0;
}

// Segments of a packet that is to be cut up are as long as its sender was told to make them.
static __always_inline int fits(struct __sk_buff *skb, const struct packet *packet, u32 number)
{
    struct hop *hop = hops.lookup(&number);

    return !hop || hop->state != HOP_RESOLVED || skb->gso_size || packet->length <= hop->mtu;
}

static __always_inline u32 send_on(struct __sk_buff *skb, struct sid *sid, u32 hop)
{
    if (hop || sid->ifindex)
        return send_by(skb, hop, sid->ifindex, &sid->next_hop, REASON_ENDPOINT);
    return TO_KERNEL(REASON_ENDPOINT);
}

static __always_inline u32 end(struct __sk_buff *skb, struct packet *packet,
                               struct routing *routing, struct sid *sid,
                               const struct config *settings)
{
    u32 hop;
    u32 at = packet->offset + sizeof(struct ipv6hdr);
    struct in6 *listed;
    struct in6 next;
    u8 *srh;
    u8 left;

    if (packet->hop_limit <= 1)
        return TO_KERNEL(REASON_HOP_LIMIT);
    if (!routing->present || !routing->left)
        return TO_KERNEL(REASON_SEGMENTS_LEFT);
    if (sid->flags & SID_PSP && routing->left == 1)
        return TO_KERNEL(REASON_UNKNOWN_BEHAVIOR);
    left = routing->left - 1;
    listed = at_offset(skb, at + 8 + 16 * left);
    if ((void *)(listed + 1) > data_end(skb))
        return TO_KERNEL(REASON_TRUNCATED);
    next = *listed;
    if (is_local_scope(&next))
        return TO_KERNEL(REASON_LOCAL_SCOPE);
    hop = hop_of(sid, &next, settings);
    if (is_down(hop))
        return TO_KERNEL(REASON_HOP_DOWN);
    if (!fits(skb, packet, hop))
        return TO_KERNEL(REASON_OVERSIZE);
    if (unframe(skb, packet, packet->offset + packet->length))
        return TO_KERNEL(REASON_ADJUST_FAILED);
    packet->offset = ETHERNET;
    srh = data_of(skb) + ETHERNET + sizeof(struct ipv6hdr);
    if (redestine(skb, packet, &next, !hop && !sid->ifindex) || srh + 4 > (u8 *)data_end(skb))
        return DROP(REASON_STORE_FAILED);
    srh[3] = left;
    count(sid->counter, packet->length);
    return send_on(skb, sid, hop);
}

static __always_inline u32 end_map(struct __sk_buff *skb, struct packet *packet, struct sid *sid,
                                   const struct config *settings)
{
    struct in6 mapped = sid->mapped;
    u32 hop;

    if (packet->hop_limit <= 1)
        return TO_KERNEL(REASON_HOP_LIMIT);
    hop = hop_of(sid, &mapped, settings);
    if (is_down(hop))
        return TO_KERNEL(REASON_HOP_DOWN);
    if (!fits(skb, packet, hop))
        return TO_KERNEL(REASON_OVERSIZE);
    if (unframe(skb, packet, packet->offset + packet->length))
        return TO_KERNEL(REASON_ADJUST_FAILED);
    packet->offset = ETHERNET;
    if (redestine(skb, packet, &mapped, !hop && !sid->ifindex))
        return DROP(REASON_STORE_FAILED);
    count(sid->counter, packet->length);
    return send_on(skb, sid, hop);
}

static __always_inline u32 redirect_late(struct __sk_buff *skb, struct packet *packet,
                                         struct path *path, struct sid *sid,
                                         const struct config *settings)
{
    struct in6 last = path->last;

    // Of a list of several segments the last alone does, if the way to it begins with the same
    // hop: what was in between is left out for as long as packets come late.
    if (!(path->flags & PATH_REDIRECT) &&
        (!path->hop || hop_towards(&last, settings) != path->hop))
        return TO_KERNEL(REASON_NOT_IN_PLACE);
    if (!skb->gso_size && packet->length > path->mtu)
        return TO_KERNEL(REASON_OVERSIZE);
    if (packet->hop_limit <= 1)
        return TO_KERNEL(REASON_HOP_LIMIT);
    if (is_down(path->hop))
        return TO_KERNEL(REASON_HOP_DOWN);
    if (unframe(skb, packet, packet->offset + packet->length))
        return TO_KERNEL(REASON_ADJUST_FAILED);
    packet->offset = ETHERNET;
    if (redestine(skb, packet, &last, 0))
        return DROP(REASON_STORE_FAILED);
    count(sid->counter, packet->length);
    count(path->counter, packet->length);
    return send_by(skb, path->hop, path->ifindex, &path->next_hop, REASON_REDIRECTED);
}

#endif
