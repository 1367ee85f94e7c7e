#!/bin/sh
# What the quick-start guest's DHCP client calls with what it was told, in variables.

case "$1" in
deconfig)
    ip address flush dev "$interface"
    ip link set "$interface" up
    ;;
bound | renew)
    [ -n "$mtu" ] && ip link set "$interface" mtu "$mtu"
    ip address replace "$ip/$mask" dev "$interface"
    for gateway in $router; do
        ip route replace default via "$gateway" dev "$interface" && break
    done
    for server in $dns; do
        echo "nameserver $server"
    done >/etc/resolv.conf
    [ -n "$hostname" ] && hostname "$hostname"
    ;;
esac
