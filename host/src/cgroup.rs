//! A host's cgroups: found, made, entered, mounted anew and removed, in v1, hybrid and v2 trees.
//!
//! v1 and the controller-less v2 tree of a hybrid machine: beneath the caller's own cgroup, so that its limits hold.
//! Pure v2: beneath the root that the caller sees, because a session's cgroup, which has processes, cannot hand
//! controllers on.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::mount::{MsFlags, mount};

use crate::mountinfo::{self, Mount};
use crate::{Error, Errors};

/// How long removal waits for the kernel to let go of ended processes.
const REMOVE_DEADLINE: Duration = Duration::from_secs(10);

/// Where v2 keeps a host's first processes, so that the host's root may hand controllers on.
const INIT_LEAF: &str = "init";

/// One hierarchy of the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hierarchy {
    point: PathBuf,
    parent: PathBuf,
    unified: bool,
    /// Mount options that select it: controllers, `name=...`.
    options: Vec<String>,
}

/// The hierarchies that are mounted, each with the directory beneath which this process may make cgroups.
pub(crate) fn hierarchies() -> Result<Vec<Hierarchy>, Error> {
    let path = Path::new("/proc/self/cgroup");
    let own = fs::read_to_string(path).map_err(Error::file("read", path))?;
    Ok(find(&mountinfo::read()?, &own))
}

fn find(mounts: &[Mount], own: &str) -> Vec<Hierarchy> {
    let is_cgroup = |m: &&Mount| m.kind == "cgroup" || m.kind == "cgroup2";
    let hybrid = mounts.iter().any(|m| m.kind == "cgroup");
    let mut found: Vec<Hierarchy> = Vec::new();
    for mount in mounts.iter().filter(is_cgroup) {
        let unified = mount.kind == "cgroup2";
        let options: Vec<String> = if unified { Vec::new() } else { selectors(&mount.options) };
        let parent = if unified && !hybrid { mount.point.clone() } else { own_directory(mount, &options, own) };
        found.retain(|known| known.point != mount.point);
        found.push(Hierarchy { point: mount.point.clone(), parent, unified, options });
    }
    found
}

/// The options that name a v1 hierarchy, without those that say how it is mounted.
fn selectors(options: &[String]) -> Vec<String> {
    const OTHER: [&str; 6] = ["rw", "ro", "xattr", "clone_children", "noprefix", "cpuset_v2_mode"];
    let plain = |o: &&String| !OTHER.contains(&o.as_str()) && !o.starts_with("release_agent=");
    options.iter().filter(plain).cloned().collect()
}

/// The caller's own cgroup beneath a mount point. `own` is `/proc/self/cgroup`: `4:memory:/a`, `0::/b`.
fn own_directory(mount: &Mount, options: &[String], own: &str) -> PathBuf {
    let matches = |controllers: &str| match options {
        [] => controllers.is_empty(),
        options => options.iter().all(|o| controllers.split(',').any(|c| c == o)),
    };
    let line = own.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let controllers = parts.next()?;
        matches(controllers).then(|| parts.next()).flatten()
    });
    // Outside of what is mounted here (a container without a cgroup namespace): the top is all there is.
    let inside = line.and_then(|path| Path::new(path).strip_prefix(&mount.root).ok());
    match inside {
        Some(path) if path.as_os_str().is_empty() => mount.point.clone(),
        Some(path) => mount.point.join(path),
        None => mount.point.clone(),
    }
}

/// Makes a host's cgroup in every hierarchy; the directories, to be given to [`join`] and [`remove`].
pub(crate) fn create(relative: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut made = Vec::new();
    for hierarchy in hierarchies()? {
        let directory = hierarchy.parent.join(relative);
        if hierarchy.unified {
            delegate_down(&hierarchy.parent, relative);
        }
        fs::create_dir_all(&directory).map_err(Error::file("make", &directory))?;
        if hierarchy.options.iter().any(|o| o == "cpuset") {
            inherit_cpuset(&hierarchy.parent, relative)?;
        }
        made.push(directory);
    }
    Ok(made)
}

/// Puts this process into the cgroups.
pub(crate) fn join(directories: &[PathBuf]) -> Result<(), Error> {
    directories.iter().try_for_each(|directory| enter(directory))
}

fn enter(directory: &Path) -> Result<(), Error> {
    let procs = directory.join("cgroup.procs");
    fs::write(&procs, "0").map_err(Error::file("write", &procs))
}

/// In v2, moves this process aside and hands every controller on to what the host will make.
/// Call after [`join`] and after the cgroup namespace was made.
pub(crate) fn delegate(directories: &[PathBuf]) -> Result<(), Error> {
    for directory in directories {
        if !directory.join("cgroup.subtree_control").exists() {
            continue;
        }
        let leaf = directory.join(INIT_LEAF);
        fs::create_dir_all(&leaf).map_err(Error::file("make", &leaf))?;
        enter(&leaf)?;
        enable_controllers(directory);
    }
    Ok(())
}

/// Enables controllers on the way down. A controller that cannot be had is not an error: the host does without it.
fn delegate_down(parent: &Path, relative: &Path) {
    let mut directory = parent.to_owned();
    enable_controllers(&directory);
    for part in relative.parent().into_iter().flat_map(Path::components) {
        directory.push(part);
        let _ = fs::create_dir(&directory);
        enable_controllers(&directory);
    }
}

fn enable_controllers(directory: &Path) {
    let available = fs::read_to_string(directory.join("cgroup.controllers")).unwrap_or_default();
    for controller in available.split_whitespace() {
        let _ = fs::write(directory.join("cgroup.subtree_control"), format!("+{controller}"));
    }
}

/// A new v1 cpuset is empty, and nothing may enter an empty one.
fn inherit_cpuset(parent: &Path, relative: &Path) -> Result<(), Error> {
    let mut above = parent.to_owned();
    for part in relative.components() {
        let directory = above.join(part);
        for file in ["cpuset.cpus", "cpuset.mems"] {
            let source = above.join(file);
            let target = directory.join(file);
            let value = fs::read_to_string(&source).map_err(Error::file("read", &source))?;
            fs::write(&target, value).map_err(Error::file("write", &target))?;
        }
        above = directory;
    }
    Ok(())
}

/// Mounts the cgroup trees beneath a new root. In a new cgroup namespace they show the host's own part only.
pub(crate) fn mount_beneath(root: &Path, hierarchies: &[Hierarchy]) -> Result<(), Error> {
    let top = Path::new("/sys/fs/cgroup");
    if !hierarchies.iter().any(|h| h.point == top) {
        let target = root.join("sys/fs/cgroup");
        mount(Some("tmpfs"), &target, Some("tmpfs"), MsFlags::empty(), Some("mode=755"))
            .map_err(Error::call(format!("mount {}", target.display())))?;
    }
    for hierarchy in hierarchies {
        let target = root.join(hierarchy.point.strip_prefix("/").unwrap_or(&hierarchy.point));
        fs::create_dir_all(&target).map_err(Error::file("make", &target))?;
        let kind = if hierarchy.unified { "cgroup2" } else { "cgroup" };
        let named = |o: &String| if o.starts_with("name=") { format!("none,{o}") } else { o.clone() };
        let options: Vec<String> = hierarchy.options.iter().map(named).collect();
        let options = Some(options.join(",")).filter(|o| !o.is_empty());
        mount(Some("cgroup"), &target, Some(kind), MsFlags::empty(), options.as_deref())
            .map_err(Error::call(format!("mount {}", target.display())))?;
    }
    Ok(())
}

/// Removes cgroups with everything beneath them, and parents of theirs up to `levels` that are empty then.
pub fn remove(directories: &[PathBuf], levels: usize) -> Result<(), Errors> {
    let deadline = Instant::now() + REMOVE_DEADLINE;
    let mut errors = Errors::default();
    for directory in directories {
        if errors.collect(remove_tree(directory, deadline)).is_none() {
            continue;
        }
        let parents = directory.ancestors().skip(1).take(levels);
        // A parent that others still use stays.
        let _ = parents.map(fs::remove_dir).take_while(Result::is_ok).count();
    }
    errors.into_result()
}

fn remove_tree(directory: &Path, deadline: Instant) -> Result<(), Error> {
    let entries = match fs::read_dir(directory) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(Error::file("read", directory))?,
    };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            remove_tree(&entry.path(), deadline)?;
        }
    }
    loop {
        match fs::remove_dir(directory) {
            Ok(()) => return Ok(()),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            // Ended processes leave their cgroup a moment after they can be waited for.
            Err(e) if e.raw_os_error() == Some(libc::EBUSY) && Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(5));
            }
            Err(e) => return Err(Error::file("remove", directory)(e)),
        }
    }
}

#[cfg(test)]
#[path = "cgroup/tests.rs"]
mod tests;
