// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
// From a frame to what decisions need. Nothing here changes a packet.
#ifndef SRV6DMM_PARSE_H
#define SRV6DMM_PARSE_H

#include <uapi/linux/icmpv6.h>
#include <uapi/linux/if_packet.h>
#include <uapi/linux/in.h>
#include <uapi/linux/ip.h>

#include "result.h"

#define ETHERNET 14
#define TAG 4
#define MAX_EXTENSIONS 6

struct packet {
    u32 ifindex;
    u32 offset; // of the IP header in the frame
    u32 tagged; // a VLAN tag is in the metadata (1) or in the frame (2)
    u32 vlan;   // its id, 0 without one
    u32 ethertype;
    u32 length; // octets of IP header and payload
    u32 traffic_class;
    u32 flow_label;
    u32 next_header;
    u32 hop_limit;
    struct in6 source; // of IPv4 the address in the low half of `low`
    struct in6 destination;
    u8 mac[6]; // source
};

// Read by the one instruction that the verifier takes: the compiler would like to have the address
// of the member in a register, where it is read often.
#define MEMBER(skb, member)                                                                        \
    ({                                                                                             \
        u64 value;                                                                                 \
        asm volatile("%0 = *(u32 *)(%1 + %2)"                                                      \
                     : "=r"(value)                                                                 \
                     : "r"(skb), "i"(__builtin_offsetof(struct __sk_buff, member)));               \
        (void *)value;                                                                             \
    })

static __always_inline void *data_of(struct __sk_buff *skb)
{
    return MEMBER(skb, data);
}

static __always_inline void *data_end(struct __sk_buff *skb)
{
    return MEMBER(skb, data_end);
}

// A header that may lie in the frame's fragments is made linear.
static __always_inline int reach(struct __sk_buff *skb, u32 length)
{
    if (data_of(skb) + length <= data_end(skb))
        return 1;
    return skb->len >= length && !bpf_skb_pull_data(skb, length);
}

// One pointer that is both compared and read from: the verifier knows the bounds of that one only.
static __always_inline void *at_offset(struct __sk_buff *skb, u64 offset)
{
    void *pointer = data_of(skb) + (offset & 0xfff);

    asm volatile("" : "+r"(pointer));
    return pointer;
}

static __always_inline int is_tag(u32 ethertype)
{
    return ethertype == bpf_htons(ETH_P_8021Q) || ethertype == bpf_htons(ETH_P_8021AD);
}

static __always_inline u32 parse_link(struct __sk_buff *skb, struct packet *packet)
{
    void *data = data_of(skb);
    void *end = data_end(skb);

    packet->ifindex = skb->ifindex;
    // Not to be read anew through a pointer that the compiler has moved: the verifier forbids it.
    asm volatile("" : "+r"(packet->ifindex));
    packet->offset = ETHERNET;
    packet->ethertype = skb->protocol;
    packet->tagged = 0;
    packet->vlan = 0;
    if (data + ETHERNET > end)
        return REASON_TRUNCATED;
    __builtin_memcpy(packet->mac, data + ETH_ALEN, ETH_ALEN);
    if (skb->vlan_present) {
        packet->tagged = 1;
        packet->vlan = skb->vlan_tci & 0xfff;
    } else if (is_tag(packet->ethertype)) {
        if (data + ETHERNET + TAG > end)
            return REASON_TRUNCATED;
        packet->tagged = 2;
        packet->vlan = bpf_ntohs(*(__be16 *)(data + ETHERNET)) & 0xfff;
        packet->ethertype = *(__be16 *)(data + ETHERNET + 2);
        packet->offset = ETHERNET + TAG;
    }
    return 0;
}

// A tag within a tag. Linux takes priority tags off one after the other: the packet behind them
// would pass by whoever leaves such a frame to it.
static __always_inline int is_stacked(const struct packet *packet)
{
    return packet->tagged && is_tag(packet->ethertype);
}

// What a port is to us. An array is looked into without a call, and most frames have no tag.
static __always_inline struct port port_of(struct __sk_buff *skb, struct packet *packet)
{
    struct port_key key = {.ifindex = packet->ifindex, .vlan = packet->vlan};
    struct port none = {};
    struct port *found;

    if (!packet->tagged) {
        found = untagged.lookup(&key.ifindex);
        if (found && found->role)
            return *found;
    }
    found = ports.lookup(&key);
    return found ? *found : none;
}

// The fixed header alone. Who may speak to whom is asked of every packet that has one, before
// anything that may be wrong with it (`parse_length`): the kernel is more lenient than we are.
static __always_inline u32 parse_addresses(struct __sk_buff *skb, struct packet *packet,
                                           u32 offset)
{
    struct ipv6hdr *ip;
    u32 first;

    if (!reach(skb, offset + sizeof(*ip)))
        return REASON_TRUNCATED;
    ip = at_offset(skb, offset);
    if ((void *)(ip + 1) > data_end(skb))
        return REASON_TRUNCATED;
    first = bpf_ntohl(*(__be32 *)ip);
    if (first >> 28 != 6)
        return REASON_NOT_IP;
    packet->traffic_class = first >> 20 & 0xff;
    packet->flow_label = first & 0xfffff;
    packet->next_header = ip->nexthdr;
    packet->hop_limit = ip->hop_limit;
    packet->length = sizeof(*ip) + bpf_ntohs(ip->payload_len);
    __builtin_memcpy(&packet->source, &ip->saddr, 16);
    __builtin_memcpy(&packet->destination, &ip->daddr, 16);
    return 0;
}

// Whether all of the packet is in the frame, and what its header says is its length.
static __always_inline u32 parse_length(struct __sk_buff *skb, const struct packet *packet,
                                        u32 offset)
{
    if (packet->length == sizeof(struct ipv6hdr) &&
        (packet->next_header == IPPROTO_HOPOPTS || skb->gso_size))
        return REASON_JUMBO;
    if (skb->len < offset + packet->length)
        return REASON_TRUNCATED;
    return 0;
}

static __always_inline u32 parse_ipv6_at(struct __sk_buff *skb, struct packet *packet, u32 offset)
{
    u32 reason = parse_addresses(skb, packet, offset);

    return reason ? reason : parse_length(skb, packet, offset);
}

static __always_inline int is_sound(const struct iphdr *ip)
{
    const u32 *word = (const u32 *)ip;
    u64 sum = (u64)word[0] + word[1] + word[2] + word[3] + word[4];

    sum = (sum & 0xffffffff) + (sum >> 32);
    sum = (sum & 0xffff) + (sum >> 16 & 0xffff) + (sum >> 32);
    sum = (sum & 0xffff) + (sum >> 16);
    return sum == 0xffff;
}

static __always_inline u32 parse_ipv4_at(struct __sk_buff *skb, struct packet *packet, u32 offset)
{
    struct iphdr *ip;

    if (!reach(skb, offset + sizeof(*ip)))
        return REASON_TRUNCATED;
    ip = at_offset(skb, offset);
    if ((void *)(ip + 1) > data_end(skb))
        return REASON_TRUNCATED;
    if (ip->version != 4)
        return REASON_NOT_IP;
    packet->length = bpf_ntohs(ip->tot_len);
    if (ip->ihl < 5 || packet->length < sizeof(*ip) || skb->len < offset + packet->length)
        return REASON_TRUNCATED;
    if (ip->ihl != 5)
        return REASON_IP_OPTIONS;
    if (!is_sound(ip))
        return REASON_BAD_CHECKSUM;
    packet->traffic_class = ip->tos;
    packet->flow_label = 0;
    // A fragment has no ports to look at.
    packet->next_header = ip->frag_off & bpf_htons(0x3fff) ? IPPROTO_NONE : ip->protocol;
    packet->hop_limit = ip->ttl;
    packet->source.high = 0;
    packet->source.low = ip->saddr;
    packet->destination.high = 0;
    packet->destination.low = ip->daddr;
    return 0;
}

enum upper {
    UPPER_UNKNOWN = 0,  // more extension headers than we look at, or one that is cut off
    UPPER_HERE = 1,     // protocol and offset of its header
    UPPER_FRAGMENT = 2, // a fragment that does not hold it: what follows in the first one
};

// The upper-layer header of an IPv6 packet.
static __always_inline u32 upper_layer(struct __sk_buff *skb, struct packet *packet, u32 *protocol,
                                       u32 *offset)
{
    u32 next = packet->next_header;
    u32 at = packet->offset + sizeof(struct ipv6hdr);
    u8 header[4];

#pragma unroll
    for (int i = 0; i <= MAX_EXTENSIONS; i++) {
        if (next != IPPROTO_HOPOPTS && next != IPPROTO_ROUTING && next != IPPROTO_DSTOPTS &&
            next != IPPROTO_FRAGMENT) {
            *protocol = next;
            *offset = at;
            return UPPER_HERE;
        }
        if (at + 8 > packet->offset + packet->length ||
            bpf_skb_load_bytes(skb, at, header, sizeof(header)))
            return UPPER_UNKNOWN;
        if (next == IPPROTO_FRAGMENT) {
            if (header[2] || header[3] & 0xf8) {
                *protocol = header[0];
                return UPPER_FRAGMENT;
            }
            at += 8;
        } else {
            at += 8 * (header[1] + 1);
        }
        next = header[0];
    }
    return UPPER_UNKNOWN;
}

static __always_inline int is_local_scope(const struct in6 *address)
{
    u8 first = *(u8 *)address;

    if (first == 0xff)
        return 1; // multicast
    if (first == 0xfe && (((u8 *)address)[1] & 0xc0) == 0x80)
        return 1; // link-local
    return !address->high && (!address->low || address->low == __constant_cpu_to_be64(1));
}

// An IPv4 address that no host may have on another's link: 0/8, 127/8, multicast and above.
static __always_inline int is_local_scope4(const struct in6 *address)
{
    u8 first = *(u8 *)&address->low;

    return !first || first == 127 || first >= 224;
}

static __always_inline int is_within(const struct in6 *address, const struct in6 *block,
                                     const struct in6 *mask)
{
    return mask->high && (address->high & mask->high) == block->high &&
           (address->low & mask->low) == block->low;
}

#endif
