# What a package brings beside the program.
for file in man/man8/coracle-run.8.gz bash-completion/completions/coracle doc/coracle/copyright \
    zsh/vendor-completions/_coracle fish/vendor_completions.d/coracle.fish doc/coracle/sbom.cdx.json; do
    test -s "/usr/share/$file" || echo "lacking: $file"
done
dpkg --verify coracle

mkdir -p /etc/containers/containers.conf.d
cat >/etc/containers/containers.conf <<CONF
[containers]
default_ulimits = []
log_driver = "k8s-file"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
CONF
tar -C /bundle/rootfs -c . | podman import --quiet - busybox >/dev/null
run="run --rm --network none busybox /bin/sh -c"
podman --runtime /usr/bin/coracle $run 'echo by path'

# In the place of runc, whose own file goes aside and stays an alternative.
dpkg --install /root/coracle-runc_*.deb >/dev/null
ours=$(runc --version)
readlink -f /usr/sbin/runc
update-alternatives --quiet --set runc /usr/sbin/runc.debian
[ "$(runc --version)" != "$ours" ] && echo another
update-alternatives --quiet --auto runc
# It satisfies what asks for a runtime, so that the others can go.
dpkg --remove runc crun >/dev/null
podman info --format '{{.Host.OCIRuntime.Name}} {{.Host.OCIRuntime.Path}}'
podman $run 'echo as runc'
podman rmi --force busybox >/dev/null

# What was installed goes, all of it.
dpkg --remove --force-depends coracle-runc >/dev/null 2>&1
ls /usr/sbin/runc* 2>/dev/null || echo no runc
list=$(dpkg --listfiles coracle | grep coracle)
dpkg --purge --force-depends coracle >/dev/null 2>&1
for path in $list; do
    ! test -e "$path" || echo "left: $path"
done
