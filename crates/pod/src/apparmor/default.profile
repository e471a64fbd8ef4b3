# What containers may do where nothing else is asked for, on hosts with AppArmor: everything that capabilities, seccomp and
# the container's mounts leave them, but no mounts, and nothing of the kernel's own files that concerns the host.
profile {name} flags=(attach_disconnected, mediate_deleted) {
  capability,
  file,
  network,
  umount,

  # From the runtime and the host's programs, and among the container's own processes.
  signal (receive) peer=unconfined,
  signal (send, receive) peer={name},
  ptrace (read, readby, trace, tracedby) peer={name},

  deny mount,

  # Files directly in /proc, and all below its directories that are not processes. What a container may have of
  # /proc/sys are the namespaced settings: net, kernel.msg*, kernel.sem, kernel.shm*, fs.mqueue.
  deny /proc/* w,
  deny /proc/{acpi,asound,bus,driver,dynamic_debug,fs,irq,mpt,pressure,scsi,sysvipc,tty}/** wklx,
  deny /proc/sys/{abi,crypto,debug,dev,sunrpc,user,vm}/** wklx,
  deny /proc/sys/fs/[^m]** wklx,
  deny /proc/sys/fs/mount-max wklx,
  deny /proc/sys/kernel/[^ms]** wklx,
  deny /proc/sys/kernel/{m[^s],s[^eh],se[^m],sh[^m]}** wklx,
  deny /proc/{kcore,kmem,mem,sysrq-trigger} rwklx,

  # Of /sys a container may write only its control groups.
  deny /sys/[^f]** wklx,
  deny /sys/f[^s]** wklx,
  deny /sys/fs/[^c]** wklx,
  deny /sys/fs/c[^g]** wklx,
  deny /sys/{devices/virtual/powercap,firmware,kernel/security}/** rwklx,
}
