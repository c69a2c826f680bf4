//! Keeps container logs from filling the disk: a full file is renamed and the runtime told to open a new one.

use std::path::{Path, PathBuf};

use cri::{Runtime, v1};

use crate::config::LogPolicy;

/// Looks at the log of every running container.
pub(crate) async fn pass(runtime: &dyn Runtime, policy: &LogPolicy) -> Result<(), cri::Error> {
    for container in runtime.list_containers(std::collections::HashMap::new()).await? {
        if container.state != v1::ContainerState::ContainerRunning as i32 {
            continue;
        }
        let Ok(status) = runtime.container_status(&container.id).await else { continue };
        let path = PathBuf::from(&status.log_path);
        let full = std::fs::metadata(&path).is_ok_and(|metadata| metadata.len() >= policy.max_size_bytes);
        if full && let Err(error) = rotate(runtime, &container.id, &path, policy).await {
            tracing::warn!(container = container.id, %error, "cannot rotate a log");
        }
    }
    Ok(())
}

async fn rotate(runtime: &dyn Runtime, id: &str, path: &Path, policy: &LogPolicy) -> Result<(), cri::Error> {
    let failed = |source| cri::Error::Io { operation: format!("rotate {}", path.display()), source };
    for old in surplus(rotated(path), policy.max_files) {
        std::fs::remove_file(&old).map_err(failed)?;
    }
    let stamp = daemon::clock::now().to_zoned(jiff::tz::TimeZone::UTC).strftime("%Y%m%d-%H%M%S").to_string();
    let to = PathBuf::from(format!("{}.{stamp}", path.display()));
    std::fs::rename(path, &to).map_err(failed)?;
    if let Err(error) = runtime.reopen_container_log(id).await {
        // The runtime still writes to the renamed file: give it its name back.
        std::fs::rename(&to, path).map_err(failed)?;
        return Err(error);
    }
    Ok(())
}

/// Rotated files of a log, oldest first.
pub(crate) fn rotated(path: &Path) -> Vec<PathBuf> {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else { return Vec::new() };
    let prefix = format!("{}.", name.to_string_lossy());
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> =
        entries.filter(|e| e.file_name().to_string_lossy().starts_with(&prefix)).map(|e| e.path()).collect();
    files.sort();
    files
}

/// Those to remove so that, with the file in use and the one about to be rotated, `max` are left.
fn surplus(files: Vec<PathBuf>, max: u32) -> Vec<PathBuf> {
    let keep = usize::try_from(max).unwrap_or(usize::MAX).saturating_sub(2);
    let remove = files.len().saturating_sub(keep);
    files.into_iter().take(remove).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_are_surplus() {
        let files: Vec<PathBuf> = ["1", "2", "3", "4"].map(PathBuf::from).to_vec();
        assert_eq!(surplus(files.clone(), 5), [PathBuf::from("1")]);
        assert!(surplus(files[..3].to_vec(), 5).is_empty());
    }
}
