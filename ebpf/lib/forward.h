// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
// Out of a device to a next hop that is given: a lookup of the route for every packet would cost
// half as much as all the rest.
#ifndef SRV6DMM_FORWARD_H
#define SRV6DMM_FORWARD_H

#include "parse.h"

// BCC 0.26 declares it with three arguments.
static long (*redirect_neighbour)(u32 ifindex, void *hop, int size, u64 flags) = (void *)152;
static long (*redirect_to_peer)(u32 ifindex, u64 flags) = (void *)155;

static __always_inline u32 send_to(u32 ifindex, const struct in6 *next_hop, u32 reason)
{
    struct bpf_redir_neigh hop = {.nh_family = 10}; // AF_INET6

    __builtin_memcpy(hop.ipv6_nh, next_hop, 16);
    return redirected(redirect_neighbour(ifindex, &hop, sizeof(hop), 0), reason);
}

static __always_inline int addressed(struct __sk_buff *skb, const void *addresses)
{
    void *data = data_of(skb);

    if (data + ETHERNET > data_end(skb))
        return -1;
    __builtin_memcpy(data, addresses, 2 * ETH_ALEN);
    return 0;
}

// Whether nothing can be sent to a next hop now. To be asked before a packet is touched.
static __always_inline int is_down(u32 number)
{
    struct hop *hop = hops.lookup(&number);

    return hop && hop->state == HOP_DOWN;
}

static __always_inline u32 send_by(struct __sk_buff *skb, u32 number, u32 ifindex,
                                   const struct in6 *next_hop, u32 reason)
{
    struct hop *hop = hops.lookup(&number);

    if (!hop || hop->state != HOP_RESOLVED)
        return send_to(ifindex, next_hop, reason);
    if (addressed(skb, hop->mac))
        return DROP(REASON_STORE_FAILED);
    return redirected(bpf_redirect(hop->ifindex, 0), reason);
}

// Leave of a frame the packet alone, which ends at `end`: a tag ends here, and what a sender or a
// short frame's padding has put behind the packet is not the next link's. A super packet ends where
// it says.
static __always_inline int unframe(struct __sk_buff *skb, const struct packet *packet, u32 end)
{
    if (skb->len > end && !skb->gso_size && bpf_skb_change_tail(skb, end, 0))
        return -1;
    return packet->tagged ? bpf_skb_vlan_pop(skb) : 0;
}

// To the mobile node on its port.
static __always_inline u32 deliver(struct __sk_buff *skb, const struct delivery *to)
{
    if (to->flags & (DELIVER_PEER | DELIVER_DIRECT)) {
        if (addressed(skb, to->mac))
            return DROP(REASON_STORE_FAILED);
        if (to->flags & DELIVER_PEER)
            return redirected(redirect_to_peer(to->ifindex, 0), REASON_DELIVERED);
        return redirected(bpf_redirect(to->ifindex, 0), REASON_DELIVERED);
    }
    return send_to(to->ifindex, &to->next_hop, REASON_DELIVERED);
}

#endif
