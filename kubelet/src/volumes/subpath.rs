//! A path inside a volume, opened so that no link leads out of it, and mounted where nobody can swap it.

use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Component, Path, PathBuf};

use nix::mount::{MsFlags, mount};
use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags};

/// Where the mount of one sub-path is made.
pub(crate) struct Place<'a> {
    pub pod_directory: &'a Path,
    pub volume: &'a str,
    pub container: &'a str,
    pub index: usize,
}

/// Returns a path on the host that is the sub-path, made when it does not exist.
///
/// # Errors
/// The message of a path that leaves the volume, or cannot be made.
pub(crate) fn prepare(volume: &Path, subpath: &str, place: &Place<'_>) -> Result<PathBuf, String> {
    let relative = Path::new(subpath);
    if relative.is_absolute() {
        return Err(format!("error SubPath `{subpath}` must not be an absolute path"));
    }
    if relative.components().any(|part| part == Component::ParentDir) {
        return Err(format!("unable to provision SubPath `{subpath}`: must not contain '..'"));
    }
    let opened = open_beneath(volume, relative).or_else(|error| match error {
        rustix::io::Errno::NOENT => make_beneath(volume, relative).and_then(|()| open_beneath(volume, relative)),
        error => Err(error),
    });
    // Details would tell about the host's file system.
    let failed =
        |_| format!("failed to prepare subPath for volumeMount {:?} of container {:?}", place.volume, place.container);
    let opened = opened.map_err(failed)?;
    bind(&opened, place).map_err(|error| format!("failed to mount subPath of volume {:?}: {error}", place.volume))
}

fn open_beneath(volume: &Path, relative: &Path) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let root = rustix::fs::openat(CWD, volume, flags | OFlags::DIRECTORY, Mode::empty())?;
    rustix::fs::openat2(&root, relative, flags, Mode::empty(), ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS)
}

/// Makes the missing directories, each inside the one before, with the volume's own permissions.
fn make_beneath(volume: &Path, relative: &Path) -> rustix::io::Result<()> {
    let flags = OFlags::PATH | OFlags::CLOEXEC | OFlags::DIRECTORY;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let root = rustix::fs::openat(CWD, volume, flags, Mode::empty())?;
    let mode = Mode::from_raw_mode(rustix::fs::fstat(&root)?.st_mode & 0o777);
    let mut made = PathBuf::new();
    for part in relative.components().filter(|part| matches!(part, Component::Normal(_))) {
        let parent = match made.as_os_str().is_empty() {
            true => rustix::fs::openat2(&root, ".", flags, Mode::empty(), resolve)?,
            false => rustix::fs::openat2(&root, &made, flags, Mode::empty(), resolve)?,
        };
        match rustix::fs::mkdirat(&parent, part.as_os_str(), mode) {
            Ok(()) => open_up(&parent, Path::new(part.as_os_str()), mode)?,
            Err(rustix::io::Errno::EXIST) => {}
            Err(error) => return Err(error),
        }
        made.push(part);
    }
    Ok(())
}

/// Gives a new directory its mode, whatever the mask of new files is. A container may have put something else in its
/// place already: that is not followed.
fn open_up(parent: &OwnedFd, name: &Path, mode: Mode) -> rustix::io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::DIRECTORY | OFlags::NOFOLLOW;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_SYMLINKS;
    let made = rustix::fs::openat2(parent, name, flags, Mode::empty(), resolve)?;
    rustix::fs::fchmod(&made, mode)
}

fn bind(opened: &OwnedFd, place: &Place<'_>) -> std::io::Result<PathBuf> {
    let directory = place.pod_directory.join("volume-subpaths").join(place.volume).join(place.container);
    std::fs::create_dir_all(&directory)?;
    let target = directory.join(place.index.to_string());
    // A mount of an earlier start of the container.
    let _ = nix::mount::umount2(&target, nix::mount::MntFlags::MNT_DETACH);
    if FileType::from_raw_mode(rustix::fs::fstat(opened)?.st_mode) == FileType::Directory {
        let _ = std::fs::remove_file(&target);
        std::fs::create_dir_all(&target)?;
    } else {
        let _ = std::fs::remove_dir(&target);
        // Not truncated: should the earlier mount still be there after all, this is somebody's file.
        std::fs::OpenOptions::new().append(true).create(true).open(&target)?;
    }
    let source = format!("/proc/self/fd/{}", opened.as_raw_fd());
    // Not what is mounted below: on a host whose mounts are shared, taking such copies down would take the originals
    // down with them.
    mount(Some(source.as_str()), &target, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
    Ok(target)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_that_lead_out_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let (volume, outside) = (directory.path().join("v"), directory.path().join("outside"));
        std::fs::create_dir_all(volume.join("in")).unwrap();
        std::fs::create_dir(&outside).unwrap();
        std::fs::write(outside.join("file"), "").unwrap();
        std::os::unix::fs::symlink(&outside, volume.join("out")).unwrap();
        std::os::unix::fs::symlink("../outside", volume.join("up")).unwrap();
        std::os::unix::fs::symlink("in", volume.join("near")).unwrap();
        assert!(open_beneath(&volume, Path::new("in")).is_ok());
        assert!(open_beneath(&volume, Path::new("near")).is_ok());
        for link in ["out", "up"] {
            let refused = open_beneath(&volume, &Path::new(link).join("file")).err();
            assert_eq!(refused, Some(rustix::io::Errno::XDEV), "{link}");
            assert_eq!(make_beneath(&volume, &Path::new(link).join("x")), Err(rustix::io::Errno::XDEV), "{link}");
        }
        assert!(!outside.join("x").exists());
        make_beneath(&volume, Path::new("a/b")).unwrap();
        assert!(volume.join("a/b").is_dir());
    }

    #[test]
    fn what_was_put_in_a_new_directorys_place_is_left_alone() {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = tempfile::tempdir().unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        let set = |path: &Path, mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        let (volume, outside) = (directory.path().join("v"), directory.path().join("outside"));
        std::fs::create_dir(&volume).unwrap();
        std::fs::create_dir(&outside).unwrap();
        set(&outside, 0o700);
        std::os::unix::fs::symlink(&outside, volume.join("swapped")).unwrap();
        let parent = rustix::fs::openat(CWD, &volume, OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();
        let wide = Mode::from_raw_mode(0o777);
        assert!(open_up(&parent, Path::new("swapped"), wide).is_err());
        assert_eq!(mode(&outside), 0o700);
        set(&volume, 0o6775);
        make_beneath(&volume, Path::new("new")).unwrap();
        assert_eq!(mode(&volume.join("new")), 0o775, "no bits that lend a user or group");
    }

    /// What a test mounts is seen by it alone. Nothing outside of the test's own directory may be named: what a broken
    /// check mounts there would be removed with the directory.
    fn in_own_namespace(work: impl FnOnce() + Send) {
        let isolated = || {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).expect("mounting needs root");
            mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).unwrap();
            work();
        };
        std::thread::scope(|scope| scope.spawn(isolated).join().unwrap());
    }

    #[test]
    fn absolute_and_backward_paths_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let volume = directory.path().join("v");
        let absolute = directory.path().join("absolute");
        std::fs::create_dir(&volume).unwrap();
        std::fs::create_dir(&absolute).unwrap();
        let absolute = absolute.to_str().unwrap();
        let pod_directory = directory.path().join("pod");
        let place = Place { pod_directory: &pod_directory, volume: "v", container: "c", index: 0 };
        in_own_namespace(|| {
            let why = format!("error SubPath `{absolute}` must not be an absolute path");
            assert_eq!(prepare(&volume, absolute, &place), Err(why));
            for path in ["../absolute", "a/../../absolute"] {
                let why = format!("unable to provision SubPath `{path}`: must not contain '..'");
                assert_eq!(prepare(&volume, path, &place), Err(why));
            }
        });
        assert!(!pod_directory.exists(), "nothing was made");
    }

    #[test]
    fn a_container_sees_the_sub_path_and_each_start_anew() {
        let directory = tempfile::tempdir().unwrap();
        let (volume, outside) = (directory.path().join("v"), directory.path().join("outside"));
        std::fs::create_dir_all(volume.join("a")).unwrap();
        std::fs::create_dir(&outside).unwrap();
        std::fs::write(volume.join("a/file"), "text").unwrap();
        std::os::unix::fs::symlink(&outside, volume.join("out")).unwrap();
        let pod_directory = directory.path().join("pod");
        let place = |container| Place { pod_directory: &pod_directory, volume: "v", container, index: 3 };
        in_own_namespace(|| {
            let made = prepare(&volume, "a", &place("c")).unwrap();
            assert_eq!(made, pod_directory.join("volume-subpaths/v/c/3"));
            assert_eq!(std::fs::read_to_string(made.join("file")).unwrap(), "text");
            // Another start finds a file where the directory was, and is given that.
            let again = prepare(&volume, "a/file", &place("c")).unwrap();
            assert_eq!((std::fs::read_to_string(&again).unwrap().as_str(), &again), ("text", &made));
            // One more mount than was expected is still the volume's file.
            mount(Some(&made), &made, None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
            prepare(&volume, "a/file", &place("c")).unwrap();
            assert_eq!(std::fs::read_to_string(volume.join("a/file")).unwrap(), "text");
            let fresh = prepare(&volume, "b/c", &place("d")).unwrap();
            std::fs::write(fresh.join("new"), "").unwrap();
            assert!(volume.join("b/c/new").exists());
            let why = "failed to prepare subPath for volumeMount \"v\" of container \"e\"";
            assert_eq!(prepare(&volume, "out", &place("e")), Err(why.to_owned()));
            assert!(!pod_directory.join("volume-subpaths/v/e").exists());
        });
    }
}
