//! A small file system for each node's data, so that it can be filled without filling the machine's.

use super::Outcome;
use super::docker::must;
use std::path::{Path, PathBuf};

/// Of a sparse file: takes only what is written.
const SIZE: &str = "3G";

/// An ext4 in a file, mounted while this lives.
#[derive(Debug)]
pub(crate) struct Volume {
    image: PathBuf,
    pub(crate) mount: PathBuf,
}

impl Volume {
    pub(crate) fn new(dir: &Path, name: &str) -> Outcome<Self> {
        let said = |e: std::io::Error| format!("{}: {e}", dir.display());
        std::fs::create_dir_all(dir).map_err(said)?;
        let volume = Self {
            image: dir.join(format!("{name}.img")),
            mount: dir.join(name),
        };
        std::fs::create_dir_all(&volume.mount).map_err(said)?;
        let (image, mount) = (
            volume.image.to_string_lossy(),
            volume.mount.to_string_lossy(),
        );
        must("truncate", &["-s", SIZE, &image])?;
        // No reserve for root: the filler must leave nothing.
        must("mkfs.ext4", &["-q", "-F", "-m", "0", &image])?;
        must("mount", &["-o", "loop", &image, &mount])?;
        // A volume as docker makes it is empty.
        std::fs::remove_dir(volume.mount.join("lost+found")).map_err(said)?;
        drop((image, mount));
        Ok(volume)
    }

    fn filler(&self) -> PathBuf {
        self.mount.join(".chaos-filler")
    }

    /// Takes all that is left; the largest piece first, then smaller ones.
    pub(crate) fn fill(&self) -> Outcome<()> {
        let path = self.filler();
        let path = path.to_string_lossy();
        let mut size: u64 = 0;
        for step in [64 << 20, 1 << 20, 64 << 10, 4 << 10] {
            while must("fallocate", &["-l", &(size + step).to_string(), &path]).is_ok() {
                size += step;
            }
        }
        if size == 0 {
            return Err(format!("{path}: nothing could be taken"));
        }
        Ok(())
    }

    pub(crate) fn free(&self) -> Outcome<()> {
        std::fs::remove_file(self.filler()).map_err(|e| format!("filler: {e}"))
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        let mount = self.mount.to_string_lossy().into_owned();
        if let Err(why) = must("umount", &[&mount]) {
            eprintln!("{why}");
            return;
        }
        std::fs::remove_dir(&self.mount).ok();
        std::fs::remove_file(&self.image).ok();
    }
}
