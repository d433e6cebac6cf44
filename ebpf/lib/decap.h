// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
// Endpoints that take the outer header off (RFC 8986 sections 4.5 to 4.8).
#ifndef SRV6DMM_DECAP_H
#define SRV6DMM_DECAP_H

#include "encap.h"
#include "endpoint.h"

#define NOT_ECT 0
#define ECT1 1
#define ECT0 2
#define CE 3
// Linux 6.4; older kernels refuse, and their own End.DX4 does it.
#define DECAP_L3_IPV4 (1ULL << 7)

// RFC 6040 section 4.2: the ECN field that leaves, or -1 for a packet that must be dropped.
static __always_inline int ecn_after(u32 outer, u32 inner)
{
    if (outer == CE)
        return inner == NOT_ECT ? -1 : CE;
    if (outer == ECT1 && inner == ECT0)
        return ECT1;
    return inner;
}

// `end`: of the inner packet in the frame.
static __always_inline u32 strip(struct __sk_buff *skb, struct packet *outer, u32 length, u32 end,
                                 u64 flags)
{
    if (unframe(skb, outer, end))
        return TO_KERNEL(REASON_ADJUST_FAILED);
    if (bpf_skb_adjust_room(skb, -(s32)length, BPF_ADJ_ROOM_MAC, BPF_F_ADJ_ROOM_FIXED_GSO | flags))
        return outer->tagged ? DROP(REASON_STORE_FAILED) : TO_KERNEL(REASON_ADJUST_FAILED);
    return 0;
}

static __always_inline u32 end_dt6(struct __sk_buff *skb, struct packet *outer,
                                   struct routing *routing, struct sid *sid,
                                   const struct config *settings)
{
    u32 length = sizeof(struct ipv6hdr) + routing->length;
    struct packet inner;
    struct steer *entry;
    struct delivery *to;
    u32 result;
    u64 prefix;
    int ecn;

    if (routing->left)
        return TO_KERNEL(REASON_SEGMENTS_LEFT);
    if (routing->next_header != IPPROTO_IPV6)
        return TO_KERNEL(REASON_INNER);
    result = parse_ipv6_at(skb, &inner, outer->offset + length);
    if (result)
        return TO_KERNEL(result);
    if (inner.length > outer->length - length)
        return TO_KERNEL(REASON_TRUNCATED);
    if (is_local_scope(&inner.source))
        return TO_KERNEL(REASON_LOCAL_SCOPE);
    prefix = inner.destination.high;
    entry = prefixes.lookup(&prefix);
    if (!entry)
        return TO_KERNEL(REASON_NOT_HERE);
    if (entry->action == STEER_DROP)
        return DROP(REASON_NODE_LEFT);
    if (entry->action == STEER_ENCAP) {
        u32 id = entry->path;
        struct path *path = paths.lookup(&id);

        if (!path || !path->header_length)
            return TO_KERNEL(REASON_NO_PATH);
        return redirect_late(skb, outer, path, sid, settings);
    }
    to = deliveries.lookup(&prefix);
    if (!to)
        return TO_KERNEL(REASON_NOT_HERE);
    if (inner.hop_limit <= 1)
        return TO_KERNEL(REASON_HOP_LIMIT);
    inner.offset = outer->offset + length;
    if (to->mtu && greatest(skb, &inner, sizeof(struct ipv6hdr)) > to->mtu)
        return TO_KERNEL(REASON_OVERSIZE);
    ecn = ecn_after(outer->traffic_class & 3, inner.traffic_class & 3);
    if (ecn < 0)
        return DROP(REASON_ECN);
    result = strip(skb, outer, length, inner.offset + inner.length, 0);
    if (result)
        return result;
    inner.ethertype = bpf_htons(ETH_P_IPV6);
    if (decrement(skb, &inner, ETHERNET))
        return DROP(REASON_STORE_FAILED);
    if (ecn != (inner.traffic_class & 3)) {
        __be32 first = bpf_htonl(6 << 28 | ((inner.traffic_class & 0xfc) | ecn) << 20 |
                                 inner.flow_label);

        if (bpf_skb_store_bytes(skb, ETHERNET, &first, sizeof(first), BPF_F_RECOMPUTE_CSUM))
            return DROP(REASON_STORE_FAILED);
    }
    count(sid->counter, outer->length);
    count(entry->counter, inner.length);
    count(to->counter, inner.length);
    return deliver(skb, to);
}

// The ECN field of an IPv4 header, checksum included.
static __always_inline int remark(struct __sk_buff *skb, u32 at, u32 traffic_class, u32 ecn)
{
    __be16 old = bpf_htons(0x4500 | traffic_class);
    __be16 new = bpf_htons(0x4500 | (traffic_class & 0xfc) | ecn);

    if (bpf_l3_csum_replace(skb, at + 10, old, new, 2))
        return -1;
    return bpf_skb_store_bytes(skb, at, &new, sizeof(new), BPF_F_RECOMPUTE_CSUM);
}

// Who is next on the way to the next hop, by the kernel's routes and neighbours, or why it is not
// for us to send there.
static __always_inline u32 look_up4(struct __sk_buff *skb, const struct packet *inner,
                                    __be32 next_hop, struct bpf_fib_lookup *found)
{
    u32 size = greatest(skb, inner, sizeof(struct iphdr));

    found->family = 2; // AF_INET
    found->ifindex = skb->ifindex;
    found->tot_len = size > 0xffff ? 0xffff : size;
    found->tos = inner->traffic_class & 0xfc;
    found->l4_protocol = inner->next_header;
    found->ipv4_src = inner->source.low;
    found->ipv4_dst = next_hop;
    switch (bpf_fib_lookup(skb, found, sizeof(*found), 0)) {
    case BPF_FIB_LKUP_RET_SUCCESS:
        return 0;
    case BPF_FIB_LKUP_RET_FRAG_NEEDED:
        return REASON_OVERSIZE;
    }
    return REASON_NOT_HERE;
}

static __always_inline u32 end_dx4(struct __sk_buff *skb, struct packet *outer,
                                   struct routing *routing, struct sid *sid)
{
    u32 length = sizeof(struct ipv6hdr) + routing->length;
    struct bpf_fib_lookup hop = {};
    struct {
        u8 mac[ETH_ALEN];
        u8 source_mac[ETH_ALEN];
    } link;
    __be16 ethertype = bpf_htons(ETH_P_IP);
    struct packet inner;
    u32 result;
    int ecn;

    if (routing->left)
        return TO_KERNEL(REASON_SEGMENTS_LEFT);
    if (routing->next_header != IPPROTO_IPIP)
        return TO_KERNEL(REASON_INNER);
    result = parse_ipv4_at(skb, &inner, outer->offset + length);
    if (result)
        return TO_KERNEL(result);
    if (inner.length > outer->length - length)
        return TO_KERNEL(REASON_TRUNCATED);
    if (is_local_scope4(&inner.source) || is_local_scope4(&inner.destination))
        return TO_KERNEL(REASON_LOCAL_SCOPE);
    if (inner.hop_limit <= 1)
        return TO_KERNEL(REASON_HOP_LIMIT);
    inner.offset = outer->offset + length;
    result = look_up4(skb, &inner, sid->next_hop.high, &hop);
    if (result)
        return TO_KERNEL(result);
    ecn = ecn_after(outer->traffic_class & 3, inner.traffic_class & 3);
    if (ecn < 0)
        return DROP(REASON_ECN);
    result = strip(skb, outer, length, inner.offset + inner.length, DECAP_L3_IPV4);
    if (result)
        return result;
    inner.ethertype = ethertype;
    __builtin_memcpy(link.mac, hop.dmac, ETH_ALEN);
    __builtin_memcpy(link.source_mac, hop.smac, ETH_ALEN);
    if (decrement(skb, &inner, ETHERNET) ||
        (ecn != (inner.traffic_class & 3) && remark(skb, ETHERNET, inner.traffic_class, ecn)) ||
        bpf_skb_store_bytes(skb, 12, &ethertype, sizeof(ethertype), 0) || addressed(skb, &link))
        return DROP(REASON_STORE_FAILED);
    count(sid->counter, outer->length);
    return redirected(bpf_redirect(hop.ifindex, 0), REASON_DELIVERED);
}

#endif
