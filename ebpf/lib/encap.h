// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
// H.Encaps and H.Encaps.Red (RFC 8986 section 5): the path's outer header in front of a packet.
#ifndef SRV6DMM_ENCAP_H
#define SRV6DMM_ENCAP_H

#include <uapi/linux/tcp.h>

#include "forward.h"

#define ENCAP_FLAGS (BPF_F_ADJ_ROOM_ENCAP_L3_IPV6 | BPF_F_ADJ_ROOM_FIXED_GSO)
#define SRH_FIXED 8

// RFC 6437: packets of a flow get the same label, flows get different ones, and never 0. The
// sender's own label stands for the ports (RFC 6438 section 3).
static __always_inline u32 flow_label_of(struct __sk_buff *skb, const struct packet *packet,
                                         u32 header)
{
    // Products that do not wait for each other.
    u64 hash = packet->source.high * 0x9e3779b97f4a7c15ULL +
               packet->source.low * 0xbf58476d1ce4e5b9ULL +
               packet->destination.high * 0x94d049bb133111ebULL +
               packet->destination.low * 0xd6e8feb86659fd93ULL;

    if (packet->flow_label) {
        hash += packet->flow_label * 0xff51afd7ed558ccdULL;
    } else {
        u32 ports = 0;

        if (packet->next_header == IPPROTO_TCP || packet->next_header == IPPROTO_UDP) {
            void *at = data_of(skb) + packet->offset + header;

            if (packet->length >= header + 4 && at + 4 <= data_end(skb))
                ports = *(u32 *)at;
        }
        hash += ((u64)packet->next_header << 32 | ports) * 0xc4ceb9fe1a85ec53ULL;
    }
    hash = (hash ^ hash >> 32) * 0x9e3779b97f4a7c15ULL >> 44;
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
        u8 *at = at_offset(skb, packet->offset + header);

        if ((void *)at + 13 <= data_end(skb))
            upper = (at[12] >> 4) * 4;
    }
    return header + upper + size;
}

// RFC 8986 section 5.1: the head-end decrements the packet's own hop limit, as any router.
static __always_inline int decrement(struct __sk_buff *skb, const struct packet *packet, u32 at)
{
    u16 check, old, new;

    if (packet->ethertype == bpf_htons(ETH_P_IPV6)) {
        u8 *ip = at_offset(skb, at);

        if ((void *)(ip + 8) > data_end(skb))
            return -1;
        ip[7] = packet->hop_limit - 1;
        return 0;
    }
    if (bpf_skb_load_bytes(skb, at + 8, &old, 2))
        return -1;
    new = old - bpf_htons(0x0100);
    if (bpf_l3_csum_replace(skb, at + 10, old, new, 2))
        return -1;
    return bpf_skb_store_bytes(skb, at + 8, &new, 2, BPF_F_RECOMPUTE_CSUM);
}

// Written directly: on many processors a helper call costs as much as ten stores. The sum that some
// devices give with a received packet is not kept up: transmission does not look at it, and a
// receiver on this very host would find it wrong and add up for itself.
static __always_inline int write_outer(struct __sk_buff *skb, const struct packet *packet,
                                       const struct path *path, u64 first, u32 length, u8 inner)
{
    void *data = data_of(skb);
    void *end = data_end(skb);
    const u64 *from = (const u64 *)path->header;
    u64 *to = data + ETHERNET;

    if ((void *)(to + 5) > end)
        return -1;
    to[0] = first;
    to[1] = from[1];
    to[2] = from[2];
    to[3] = from[3];
    to[4] = from[4];
    if (length > 40) { // the fixed part of an SRH and a segment; then segments
        if ((void *)(to + 8) > end)
            return -1;
        to[5] = from[5];
        to[6] = from[6];
        to[7] = from[7];
    }
#pragma unroll
    for (u32 segment = 1; segment < MAX_SEGMENTS; segment++) {
        u32 word = 6 + 2 * segment;

        if (8 * word >= length)
            break;
        asm volatile("" : "+r"(to)); // unrolled, not a loop that counts
        if ((void *)(to + word + 2) > end)
            return -1;
        to[word] = from[word];
        to[word + 1] = from[word + 1];
    }
    if (inner != IPPROTO_IPV6) {
        if (length > 40) {
            if ((void *)(to + 6) > end)
                return -1;
            *(u8 *)(to + 5) = inner;
        }
        *(__be16 *)(data + 12) = bpf_htons(ETH_P_IPV6);
    }
    return decrement(skb, packet, ETHERNET + length);
}

static __always_inline u32 encapsulate(struct __sk_buff *skb, struct packet *packet,
                                       struct path *path, u32 header)
{
    u32 length = path->header_length;
    union {
        struct {
            __be32 first;
            __be16 payload;
            u8 next_header;
            u8 hop_limit;
        };
        u64 word;
    } outer;
    u8 inner = packet->ethertype == bpf_htons(ETH_P_IPV6) ? IPPROTO_IPV6 : IPPROTO_IPIP;
    u32 payload;

    if (length < sizeof(struct ipv6hdr) || length > MAX_HEADER)
        return TO_KERNEL(REASON_NO_PATH);
    if (is_down(path->hop))
        return TO_KERNEL(REASON_HOP_DOWN);
    payload = length - sizeof(struct ipv6hdr) + packet->length;
    if (greatest(skb, packet, header) + length > path->mtu || payload > 0xffff)
        return TO_KERNEL(REASON_OVERSIZE);
    outer.word = *(const u64 *)path->header;
    outer.first = bpf_htonl(6 << 28 | packet->traffic_class << 20 |
                            flow_label_of(skb, packet, header));
    outer.payload = bpf_htons(payload);
    if (outer.next_header != IPPROTO_ROUTING)
        outer.next_header = inner;
    if (unframe(skb, packet, packet->offset + packet->length))
        return TO_KERNEL(REASON_ADJUST_FAILED);
    if (bpf_skb_adjust_room(skb, length, BPF_ADJ_ROOM_MAC, ENCAP_FLAGS))
        return packet->tagged ? DROP(REASON_STORE_FAILED) : TO_KERNEL(REASON_ADJUST_FAILED);
    if (write_outer(skb, packet, path, outer.word, length, inner))
        return DROP(REASON_STORE_FAILED);
    count(path->counter, packet->length);
    return send_by(skb, path->hop, path->ifindex, &path->next_hop, REASON_STEERED);
}

#endif
