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

static __always_inline u32 strip(struct __sk_buff *skb, struct packet *outer, u32 length, u64 flags)
{
    if (outer->tagged && bpf_skb_vlan_pop(skb))
        return TO_KERNEL(REASON_ADJUST_FAILED);
    if (bpf_skb_adjust_room(skb, -(s32)length, BPF_ADJ_ROOM_MAC, BPF_F_ADJ_ROOM_FIXED_GSO | flags))
        return outer->tagged ? DROP(REASON_STORE_FAILED) : TO_KERNEL(REASON_ADJUST_FAILED);
    return 0;
}

static __always_inline u32 end_dt6(struct __sk_buff *skb, struct packet *outer,
                                   struct routing *routing, struct sid *sid)
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
        return redirect_late(skb, outer, path, sid);
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
    result = strip(skb, outer, length, 0);
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

static __always_inline u32 end_dx4(struct __sk_buff *skb, struct packet *outer,
                                   struct routing *routing, struct sid *sid)
{
    u32 length = sizeof(struct ipv6hdr) + routing->length;
    __be16 ethertype = bpf_htons(ETH_P_IP);
    __be32 next_hop = sid->next_hop.high;
    u32 ifindex = sid->ifindex;
    struct packet inner;
    u32 result;
    int ecn;

    if (!ifindex)
        return TO_KERNEL(REASON_UNKNOWN_BEHAVIOR);
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
    ecn = ecn_after(outer->traffic_class & 3, inner.traffic_class & 3);
    if (ecn < 0)
        return DROP(REASON_ECN);
    if (ecn != (inner.traffic_class & 3))
        return TO_KERNEL(REASON_INNER);
    result = strip(skb, outer, length, DECAP_L3_IPV4);
    if (result)
        return result;
    inner.ethertype = ethertype;
    if (decrement(skb, &inner, ETHERNET) ||
        bpf_skb_store_bytes(skb, 12, &ethertype, sizeof(ethertype), 0))
        return DROP(REASON_STORE_FAILED);
    count(sid->counter, outer->length);
    return send_to4(ifindex, next_hop, REASON_DELIVERED);
}

#endif
