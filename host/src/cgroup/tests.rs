//! Which cgroup is whose, in the three kinds of trees.

use super::*;

fn mounted(root: &str, point: &str, kind: &str, options: &str) -> Mount {
    Mount {
        root: root.into(),
        point: point.into(),
        kind: kind.to_owned(),
        options: options.split(',').map(str::to_owned).collect(),
    }
}

fn parents(mounts: &[Mount], own: &str) -> Vec<String> {
    let parent = |h: Hierarchy| h.parent.display().to_string();
    find(mounts, own).into_iter().map(parent).collect()
}

#[test]
fn v1_and_hybrid_lie_beneath_the_caller() {
    let mounts = [
        mounted("/", "/sys/fs/cgroup/cpu,cpuacct", "cgroup", "rw,cpu,cpuacct"),
        mounted("/", "/sys/fs/cgroup/systemd", "cgroup", "rw,xattr,name=systemd"),
        mounted("/", "/sys/fs/cgroup/unified", "cgroup2", "rw,nsdelegate"),
        mounted("/", "/", "ext4", "rw"),
    ];
    let own = "5:cpu,cpuacct:/user\n1:name=systemd:/user.slice/s.scope\n0::/\n";
    assert_eq!(
        parents(&mounts, own),
        ["/sys/fs/cgroup/cpu,cpuacct/user", "/sys/fs/cgroup/systemd/user.slice/s.scope", "/sys/fs/cgroup/unified",]
    );
}

#[test]
fn v2_lies_at_the_root() {
    let mounts = [mounted("/", "/sys/fs/cgroup", "cgroup2", "rw,nsdelegate")];
    assert_eq!(parents(&mounts, "0::/user.slice/s.scope\n"), ["/sys/fs/cgroup"]);
}

#[test]
fn a_path_outside_of_the_mount_is_its_top() {
    let mounts = [mounted("/docker/1", "/sys/fs/cgroup/memory", "cgroup", "rw,memory")];
    assert_eq!(parents(&mounts, "4:memory:/docker/1/sub\n"), ["/sys/fs/cgroup/memory/sub"]);
    assert_eq!(parents(&mounts, "4:memory:/elsewhere\n"), ["/sys/fs/cgroup/memory"]);
}

#[test]
fn removal_of_what_is_not_there_is_fine() {
    remove(&["/nonexistent/cgroup".into()], 1).unwrap();
}
