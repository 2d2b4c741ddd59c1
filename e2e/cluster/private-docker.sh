# A dockerd of our own for machines without one: own data, socket and network namespace, so that neither its
# firewall rules nor its containers touch the machine, and removing the namespace removes them. Sourced.
# shellcheck shell=bash

netns=/run/netns/signalbox
docker_run=/run/signalbox
docker_socket=$docker_run/docker.sock
docker_data=$cache/docker

# in_netns COMMAND...: only the network differs. (`ip netns exec` would also remount /sys, and hide the cgroups.)
in_netns() { nsenter --net=$netns -- "$@"; }

private_docker_pid() {
  local pid
  pid=$(cat $docker_run/docker.pid 2>/dev/null) && [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = dockerd ] && echo "$pid"
}

start_private_docker() {
  export DOCKER_HOST=unix://$docker_socket
  unset DOCKER_CONTEXT
  ! private_docker_pid >/dev/null || return 0
  say "starting a private dockerd ..."
  remove_remains
  mkdir -p $docker_run "$docker_data"
  ip netns add signalbox
  in_netns ip link set lo up

  # Only the system's PATH: dockerd starts the containerd it finds there, and shall not find the node's.
  # setsid: Ctrl-C in this terminal is not meant for it. Not in_netns: a function in the background is a
  # second bash, which would hold our lock as long as dockerd lives.
  nsenter --net=$netns -- env PATH=/usr/sbin:/usr/bin:/sbin:/bin setsid dockerd \
    --host "$DOCKER_HOST" --pidfile $docker_run/docker.pid --exec-root $docker_run/docker --data-root "$docker_data" \
    --storage-driver overlay2 --exec-opt native.cgroupdriver=cgroupfs --cgroup-parent /signalbox \
    --add-runtime "fit=$("$here/program" runc-fit)" --default-runtime fit \
    >$docker_run/docker.log 2>&1 </dev/null &
  local child=$!
  for _ in {1..150}; do
    docker version >/dev/null 2>&1 && break
    kill -0 $child 2>/dev/null || break
    sleep 0.2
  done
  docker version >/dev/null 2>&1 || die "dockerd did not start" \
    "Its log ends with:" "$(tail -n 8 $docker_run/docker.log)" \
    "It needs root with CAP_SYS_ADMIN and CAP_NET_ADMIN, and overlayfs below $docker_data" \
    "(not itself on an overlay: set SIGNALBOX_CACHE to a folder on a disk). Or start Docker yourself."
  # Containers that an earlier dockerd left when it was killed are not to be trusted.
  docker ps --all --quiet | xargs -r docker rm --force --volumes >/dev/null
}

stop_private_docker() {
  local pid
  if pid=$(private_docker_pid); then
    kill "$pid"
    for _ in {1..300}; do
      kill -0 "$pid" 2>/dev/null || break
      sleep 0.1
    done
    ! kill -0 "$pid" 2>/dev/null || die "dockerd ($pid) does not stop" "See $docker_run/docker.log."
  fi
  remove_remains
}

# What a dockerd leaves, most of it only when it was killed: processes in the cgroup that is its alone, mounts,
# cgroups, namespaces. An old node's network namespace, still on the bridge with the same address, would hide the
# new node for a minute.
remove_remains() {
  local left
  left=$(find /sys/fs/cgroup -path '*/signalbox/*' -name cgroup.procs -exec cat {} + 2>/dev/null | sort -u)
  [ -z "$left" ] || xargs kill -KILL <<<"$left" 2>/dev/null || true
  findmnt --raw --noheadings --output TARGET | { grep -E "^($docker_run|$docker_data)(/|\$)" || true; } | sort -r |
    xargs -r umount --lazy
  find /sys/fs/cgroup -depth -type d -path '*/signalbox*' -exec rmdir {} + 2>/dev/null || true
  [ ! -e $netns ] || ip netns delete signalbox 2>/dev/null || rm -f $netns # a plain file after a reboot
  rm -rf $docker_run
}
