//! What a container may and may not do.

use limpet_agent::runtime::RuntimeEvent;
use limpet_protocol::spec::*;

use super::node::Node;

#[tokio::test]
async fn the_defaults_are_safe() {
    let mut node = Node::new().await;
    let script = "\
        grep -E '^(NoNewPrivs|Seccomp|CapEff|SigIgn|SigBlk):' /proc/self/status; \
        unshare -r true 2>/dev/null && echo unshared; \
        mount -t tmpfs x /tmp 2>/dev/null && echo mounted; \
        dd if=/proc/kcore bs=1 count=1 2>/dev/null | wc -c; \
        (echo 1 > /proc/sysrq-trigger) 2>/dev/null && echo sysrq; \
        ls /proc/self/fd | wc -l; ls /sys/fs/cgroup | wc -l; \
        ip link show lo | grep -c LOWER_UP; id; pwd; cat /etc/hostname; hostname";
    let (exit, output) = node.run(Node::spec(script)).await;
    assert_eq!(exit.code, Some(0), "{output}");
    let lines: Vec<&str> = output.lines().collect();
    assert!(lines.contains(&"NoNewPrivs:\t1"), "{output}");
    assert!(lines.contains(&"Seccomp:\t2"), "{output}");
    assert!(lines.contains(&"CapEff:\t00000000a80425fb"), "{output}");
    // Signals 32 and 33 are the C library's and may be ignored by whoever started the tests.
    let ignored = lines.iter().find_map(|line| line.strip_prefix("SigIgn:\t")).unwrap();
    assert_eq!(u64::from_str_radix(ignored, 16).unwrap() & 0x7fff_ffff, 0, "{output}");
    assert!(lines.contains(&"SigBlk:\t0000000000000000"), "{output}");
    for bad in ["unshared", "mounted", "sysrq"] {
        assert!(!lines.contains(&bad), "{output}");
    }
    // Bytes of kcore; standard streams and the folder that is listed; cgroups; loopback.
    assert_eq!(lines[5..9], ["0", "4", "0", "1"], "{output}");
    assert!(lines[9].starts_with("uid=0(root) gid=0(root)"), "{output}");
    assert_eq!(lines[10..], ["/", "test.web.1", "test.web.1"], "{output}");
    node.end().await;
}

#[tokio::test]
async fn users_groups_folders_and_environment() {
    let mut node = Node::new().await;
    let mut spec =
        Node::spec("id; pwd; env; touch /root/x 2>/dev/null || echo denied; echo ok > /dev/stdout");
    spec.process.user = Some("web".to_owned());
    spec.process.group_add = vec!["7".to_owned()];
    spec.process.working_dir = Some("/made/here".to_owned());
    spec.process.environment.insert("A".to_owned(), "b c".to_owned());
    let (exit, output) = node.run(spec).await;
    assert_eq!(exit.code, Some(0), "{output}");
    assert!(
        output.contains("uid=33(web) gid=33(www) groups=33(www),7,29(audio)")
            || output.contains("uid=33(web) gid=33(www) groups=7,29(audio)"),
        "{output}"
    );
    for line in ["/made/here", "A=b c", "HOME=/data", "denied", "ok", "HOSTNAME=test.web.1"] {
        assert!(output.lines().any(|found| found == line), "{line} in {output}");
    }
    node.end().await;
}

#[tokio::test]
async fn a_read_only_root_and_its_mounts() {
    let mut node = Node::new().await;
    let bound = node.folder().join("bound");
    let mut spec = Node::spec(
        "touch /x 2>/dev/null && echo writable; touch /tmp/x && echo tmp; cat /vol/seed; \
         echo more > /vol/more; ls /vol; echo hello > /bound/hello; touch /ro/x 2>/dev/null || echo ro",
    );
    spec.security.read_only = true;
    let mount = |target: &str, source: MountSource, read_only: bool| Mount {
        target: target.to_owned(),
        source,
        read_only,
    };
    let bind = |create| MountSource::Bind { path: bound.to_string_lossy().into_owned(), create };
    spec.mounts = vec![
        mount("/tmp", MountSource::Tmpfs { size_bytes: Some(1 << 20), mode: None }, false),
        mount(
            "/data",
            MountSource::Volume { name: "test_data".to_owned(), no_copy: false, subpath: None },
            false,
        ),
        mount("/bound", bind(true), false),
        mount("/ro", bind(false), true),
    ];
    spec.process.command.as_mut().unwrap()[2] =
        spec.process.command.as_ref().unwrap()[2].replace("/vol", "/data");
    let (exit, output) = node.run(spec.clone()).await;
    assert_eq!(exit.code, Some(0), "{output}");
    assert_eq!(output, "tmp\nfrom the image\nmore\nseed\nro\n");
    assert_eq!(std::fs::read_to_string(bound.join("hello")).unwrap(), "hello\n");
    let volume = node.paths.data.join("volumes/test_data");
    use std::os::unix::fs::MetadataExt;
    assert_eq!(volume.metadata().unwrap().uid(), 33);
    // A volume outlives its container, and is not filled again.
    std::fs::write(volume.join("seed"), "changed\n").unwrap();
    let (_, output) = node.run(spec).await;
    assert!(output.contains("changed\n"), "{output}");
    node.end().await;
}

#[tokio::test]
async fn devices_and_privileges() {
    let mut node = Node::new().await;
    let read = "dd if=/dev/kmsg-test of=/dev/null bs=1 count=1 2>&1; mknod /tmp/k c 1 2; dd if=/tmp/k bs=1 count=1 2>&1 | grep -c permitted; true";
    let (_, output) = node.run(Node::spec(read)).await;
    assert!(output.ends_with("1\n"), "the device rules are not in force: {output}");
    let mut spec = Node::spec("ls /dev/mem-test && echo there");
    spec.devices = vec![Device {
        host_path: "/dev/full".to_owned(),
        container_path: "/dev/mem-test".to_owned(),
        permissions: "r".to_owned(),
    }];
    let (_, output) = node.run(spec).await;
    assert!(output.contains("there"), "{output}");
    let mut spec = Node::spec(
        "grep -E '^(Seccomp|NoNewPrivs):' /proc/self/status; mount -t tmpfs x /tmp && echo mounted",
    );
    spec.security.privileged = true;
    let (_, output) = node.run(spec).await;
    assert_eq!(output, "NoNewPrivs:\t0\nSeccomp:\t0\nmounted\n");
    let mut spec = Node::spec(
        "grep -E '^(Seccomp|NoNewPrivs):' /proc/self/status; cat /proc/sys/net/ipv4/ip_default_ttl",
    );
    spec.security.allow_new_privileges = true;
    spec.security.sysctls.insert("net.ipv4.ip_default_ttl".to_owned(), "77".to_owned());
    let (_, output) = node.run(spec).await;
    assert_eq!(output, "NoNewPrivs:\t0\nSeccomp:\t2\n77\n");
    node.end().await;
}

#[tokio::test]
async fn the_namespaces_of_the_node_where_asked() {
    let mut node = Node::new().await;
    let mut spec = Node::spec("echo $$; sleep 1000 & exit 5");
    spec.security.host_pid = true;
    spec.security.host_ipc = true;
    spec.network.mode = NetworkMode::Host;
    let (exit, output) = node.run(spec).await;
    assert_eq!(exit.code, Some(5));
    assert_ne!(output, "1\n");
    // The sleeping one went with its container.
    assert_eq!(node.traces(), [""; 0]);
    node.end().await;
}

#[tokio::test]
async fn the_keepers_program_cannot_be_overwritten() {
    let mut node = Node::new().await;
    let keeper = node.keeper_pid();
    // Root on the node itself cannot write to it through the keeper's own link.
    let error =
        std::fs::File::options().write(true).open(format!("/proc/{keeper}/exe")).unwrap_err();
    let read_only = std::io::ErrorKind::ReadOnlyFilesystem;
    assert!(
        error.kind() == read_only || error.kind() == std::io::ErrorKind::ExecutableFileBusy,
        "{error}"
    );
    // The container executes the keeper's program and keeps hold of it.
    let mut spec = Node::spec("");
    spec.process.command =
        Some(vec!["/proc/self/exe".to_owned(), "keeper".to_owned(), "--what".to_owned()]);
    let before = std::fs::read(super::node::exe()).unwrap();
    node.ask(spec);
    let event = node.event().await;
    assert_eq!(before, std::fs::read(super::node::exe()).unwrap(), "{event:?}");
    node.end().await;
}

#[tokio::test]
async fn names_and_their_resolver_are_as_the_service_says() {
    let mut node = Node::new().await;
    let mut spec = Node::spec(
        "hostname; cat /proc/sys/kernel/domainname; cat /etc/resolv.conf; grep db /etc/hosts; ulimit -n",
    );
    spec.process.hostname = Some("pump".to_owned());
    spec.process.domainname = Some("site.example".to_owned());
    spec.process.ulimits.insert("nofile".to_owned(), Ulimit { soft: 300, hard: 400 });
    spec.network.dns = vec!["192.0.2.1".to_owned(), "192.0.2.2".to_owned()];
    spec.network.dns_search = vec!["site.example".to_owned(), "example".to_owned()];
    spec.network.dns_opt = vec!["ndots:1".to_owned(), "timeout:3".to_owned()];
    spec.network.extra_hosts.insert("db".to_owned(), "192.0.2.9".to_owned());
    spec.annotations.insert("example.site".to_owned(), "north".to_owned());
    let (exit, output) = node.run(spec).await;
    assert_eq!(exit.code, Some(0), "{output}");
    let lines: Vec<&str> = output.lines().filter(|line| !line.is_empty()).collect();
    assert_eq!(
        lines,
        [
            "pump",
            "site.example",
            "nameserver 192.0.2.1",
            "nameserver 192.0.2.2",
            "search site.example example",
            "options ndots:1 timeout:3",
            "192.0.2.9\tdb",
            "300"
        ]
    );
    node.end().await;
}

#[tokio::test]
async fn memory_of_its_own_and_a_volume_that_begins_empty() {
    let mut node = Node::new().await;
    let mut spec = Node::spec(
        "grep ' /dev/shm ' /proc/mounts; ls /data | wc -l; cat /proc/sys/kernel/msgmax; \
         cat /sys/kernel/oom_score_adj 2>/dev/null; cat /proc/self/oom_score_adj",
    );
    spec.resources.shm_size_bytes = Some(1 << 20);
    spec.process.oom_score_adj = 700;
    spec.security.sysctls.insert("kernel.msgmax".to_owned(), "4096".to_owned());
    let source =
        MountSource::Volume { name: "test_empty".to_owned(), no_copy: true, subpath: None };
    spec.mounts = vec![Mount { target: "/data".to_owned(), source, read_only: false }];
    let (exit, output) = node.run(spec).await;
    assert_eq!(exit.code, Some(0), "{output}");
    let lines: Vec<&str> = output.lines().collect();
    assert!(lines[0].contains("size=1024k"), "{output}");
    assert_eq!(lines[1..], ["0", "4096", "700"], "{output}");
    node.end().await;
}

#[tokio::test]
async fn a_folder_within_a_volume_and_no_link_out_of_it() {
    let mut node = Node::new().await;
    let mounted = |subpath: &str| {
        let mut spec = Node::spec("echo here > /data/file; ls /data; stat -c %u /data");
        let source = MountSource::Volume {
            name: "test_parts".to_owned(),
            no_copy: false,
            subpath: Some(subpath.to_owned()),
        };
        spec.mounts = vec![Mount { target: "/data".to_owned(), source, read_only: false }];
        spec
    };
    let (exit, output) = node.run(mounted("web/files")).await;
    assert_eq!((exit.code, output.as_str()), (Some(0), "file\n33\n"));
    let volume = node.paths.data.join("volumes/test_parts");
    assert_eq!(std::fs::read_to_string(volume.join("web/files/file")).unwrap(), "here\n");
    // What a container leaves in the volume leads the next one nowhere.
    let outside = node.folder().join("outside");
    std::fs::create_dir(&outside).unwrap();
    std::os::unix::fs::symlink(&outside, volume.join("link")).unwrap();
    for subpath in ["link", "link/further", "../test_other"] {
        node.ask(mounted(subpath));
        let RuntimeEvent::CreateFailed { reason, .. } = node.event().await else { panic!() };
        assert!(reason.contains("no link on the way"), "{reason}");
    }
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
    assert_eq!(std::fs::read_dir(node.paths.run.join("subpaths")).unwrap().count(), 0);
    node.end().await;
}
