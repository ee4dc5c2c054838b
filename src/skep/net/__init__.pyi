"""What type checkers and editors know of `skep.net`."""

# ruff: noqa: F403
from skep.net.ethernet import arp_ipv4 as arp_ipv4
from skep.net.ethernet import arphdr as arphdr
from skep.net.ethernet import ethhdr as ethhdr
from skep.net.ethernet import mpls_label as mpls_label
from skep.net.ethernet import pppoe_hdr as pppoe_hdr
from skep.net.ethernet import vlan_hdr as vlan_hdr
from skep.net.ip import frag_hdr as frag_hdr
from skep.net.ip import icmp6hdr as icmp6hdr
from skep.net.ip import icmphdr as icmphdr
from skep.net.ip import igmphdr as igmphdr
from skep.net.ip import ip_auth_hdr as ip_auth_hdr
from skep.net.ip import ip_esp_hdr as ip_esp_hdr
from skep.net.ip import ip_option as ip_option
from skep.net.ip import iphdr as iphdr
from skep.net.ip import ipv6_opt_hdr as ipv6_opt_hdr
from skep.net.ip import ipv6_rt_hdr as ipv6_rt_hdr
from skep.net.ip import ipv6hdr as ipv6hdr
from skep.net.transport import dccphdr as dccphdr
from skep.net.transport import sctphdr as sctphdr
from skep.net.transport import tcp_option as tcp_option
from skep.net.transport import tcphdr as tcphdr
from skep.net.transport import udphdr as udphdr
from skep.net.tunnel import geneve_opt as geneve_opt
from skep.net.tunnel import genevehdr as genevehdr
from skep.net.tunnel import gre_base_hdr as gre_base_hdr
from skep.net.tunnel import gtp1_header as gtp1_header
from skep.net.tunnel import vxlanhdr as vxlanhdr
from skep.uapi.network import *
