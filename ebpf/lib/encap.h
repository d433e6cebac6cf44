// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
// H.Encaps and H.Encaps.Red (RFC 8986 section 5): the path's outer header in front of a packet.
#ifndef SRV6DMM_ENCAP_H
#define SRV6DMM_ENCAP_H

#include <uapi/linux/tcp.h>

#include "forward.h"

#define ENCAP_FLAGS (BPF_F_ADJ_ROOM_ENCAP_L3_IPV6 | BPF_F_ADJ_ROOM_FIXED_GSO)
#define SRH_FIXED 8

static __always_inline u64 mix(u64 hash, u64 value)
{
    hash = (hash ^ value) * 0x9e3779b97f4a7c15ULL;
    return hash ^ hash >> 32;
}

// RFC 6437: packets of a flow get the same label, flows get different ones, and never 0. The
// sender's own label stands for the ports (RFC 6438 section 3).
static __always_inline u32 flow_label_of(struct __sk_buff *skb, const struct packet *packet,
                                         u32 header)
{
    u64 hash = mix(packet->source.high, packet->source.low);

    hash = mix(mix(hash, packet->destination.high), packet->destination.low);
    hash = mix(hash, packet->flow_label);
    if (!packet->flow_label) {
        u32 ports = 0;

        if (packet->next_header == IPPROTO_TCP || packet->next_header == IPPROTO_UDP) {
            void *at = (void *)(long)skb->data + packet->offset + header;

            if (packet->length >= header + 4 && at + 4 <= (void *)(long)skb->data_end)
                ports = *(u32 *)at;
        }
        hash = mix(hash, (u64)packet->next_header << 32 | ports);
    }
    hash = (hash ^ hash >> 20 ^ hash >> 40) & 0xfffff;
    return hash ? hash : 1;
}

// Octets of the greatest packet that this one is, or that its segments will be.
static __always_inline u32 greatest(struct __sk_buff *skb, const struct packet *packet, u32 header)
{
    u32 size = skb->gso_size;
    u32 upper = 60; // a TCP header of full length, where we do not look

    if (!size)
        return packet->length;
    if (packet->next_header == IPPROTO_UDP) {
        upper = 8;
    } else if (packet->next_header == IPPROTO_TCP) {
        u8 *at = (void *)(long)skb->data + packet->offset + header;

        if ((void *)at + 13 <= (void *)(long)skb->data_end)
            upper = (at[12] >> 4) * 4;
    }
    return header + upper + size;
}

// RFC 8986 section 5.1: the head-end decrements the packet's own hop limit, as any router.
static __always_inline int decrement(struct __sk_buff *skb, const struct packet *packet, u32 at)
{
    u16 check, old, new;

    if (packet->ethertype == bpf_htons(ETH_P_IPV6)) {
        u8 hop_limit = packet->hop_limit - 1;

        return bpf_skb_store_bytes(skb, at + 7, &hop_limit, 1, BPF_F_RECOMPUTE_CSUM);
    }
    if (bpf_skb_load_bytes(skb, at + 8, &old, 2))
        return -1;
    new = old - bpf_htons(0x0100);
    if (bpf_l3_csum_replace(skb, at + 10, old, new, 2))
        return -1;
    return bpf_skb_store_bytes(skb, at + 8, &new, 2, BPF_F_RECOMPUTE_CSUM);
}

static __always_inline u32 encapsulate(struct __sk_buff *skb, struct packet *packet,
                                       struct path *path, u32 header)
{
    u32 length = path->header_length;
    struct {
        __be32 first;
        __be16 payload;
        u8 next_header;
        u8 hop_limit;
        struct in6 source, destination;
    } outer;
    u8 inner = packet->ethertype == bpf_htons(ETH_P_IPV6) ? IPPROTO_IPV6 : IPPROTO_IPIP;
    u32 payload;

    if (length < sizeof(outer) || length > MAX_HEADER)
        return TO_KERNEL(REASON_NO_PATH);
    payload = length - sizeof(outer) + packet->length;
    if (greatest(skb, packet, header) + length > path->mtu || payload > 0xffff)
        return TO_KERNEL(REASON_OVERSIZE);
    __builtin_memcpy(&outer, path->header, sizeof(outer));
    outer.first = bpf_htonl(6 << 28 | packet->traffic_class << 20 |
                            flow_label_of(skb, packet, header));
    outer.payload = bpf_htons(payload);
    if (outer.next_header != IPPROTO_ROUTING)
        outer.next_header = inner;
    if (packet->tagged && bpf_skb_vlan_pop(skb))
        return TO_KERNEL(REASON_ADJUST_FAILED);
    if (bpf_skb_adjust_room(skb, length, BPF_ADJ_ROOM_MAC, ENCAP_FLAGS))
        return packet->tagged ? DROP(REASON_STORE_FAILED) : TO_KERNEL(REASON_ADJUST_FAILED);
    if (bpf_skb_store_bytes(skb, ETHERNET, &outer, sizeof(outer), BPF_F_RECOMPUTE_CSUM))
        return DROP(REASON_STORE_FAILED);
    if (outer.next_header == IPPROTO_ROUTING) {
        u64 rest = length - sizeof(outer);

        // In one comparison, of `length` or of a difference, the verifier would learn nothing
        // about `rest` itself.
        asm volatile("" : "+r"(rest));
        if (rest > MAX_HEADER - sizeof(outer))
            return DROP(REASON_STORE_FAILED);
        asm volatile("" : "+r"(rest));
        if (rest < SRH_FIXED + 16)
            return DROP(REASON_STORE_FAILED);
        if (bpf_skb_store_bytes(skb, ETHERNET + sizeof(outer), path->header + sizeof(outer), rest,
                                BPF_F_RECOMPUTE_CSUM))
            return DROP(REASON_STORE_FAILED);
        if (inner != IPPROTO_IPV6 &&
            bpf_skb_store_bytes(skb, ETHERNET + sizeof(outer), &inner, 1, BPF_F_RECOMPUTE_CSUM))
            return DROP(REASON_STORE_FAILED);
    }
    if (decrement(skb, packet, ETHERNET + length))
        return DROP(REASON_STORE_FAILED);
    if (inner != IPPROTO_IPV6) {
        __be16 ethertype = bpf_htons(ETH_P_IPV6);

        if (bpf_skb_store_bytes(skb, 12, &ethertype, sizeof(ethertype), 0))
            return DROP(REASON_STORE_FAILED);
    }
    count(path->counter, packet->length);
    return send_to(path->ifindex, &path->next_hop, REASON_STEERED);
}

#endif
