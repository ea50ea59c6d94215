//! Where rows are written: stdout, a file that appears only when it is whole, or a device.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Refuses, before anything is asked, a place that cannot be written to.
pub fn check(output: &Path) -> Result<(), String> {
    match fs::metadata(output) {
        Ok(found) if found.is_dir() => Err(format!("{} is a folder", output.display())),
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let folder = output.parent().filter(|folder| !folder.as_os_str().is_empty());
            match folder {
                Some(folder) if !folder.is_dir() => Err(format!("there is no folder {}", folder.display())),
                _ => Ok(()),
            }
        }
        Err(error) => Err(format!("{}: {error}", output.display())),
    }
}

/// Opens the place; a regular file is written beside its name until [`PartFile::name`].
pub fn open(output: Option<&Path>) -> io::Result<(Box<dyn Write + Send>, Option<PartFile>)> {
    let Some(path) = output else { return Ok((Box::new(io::stdout()), None)) };
    match fs::metadata(path) {
        // A device or a pipe takes bytes as they come; a file renamed over it would take its place.
        Ok(found) if !found.is_file() => Ok((Box::new(File::options().write(true).open(path)?), None)),
        Ok(found) => {
            // Through a link to the file that it names, which keeps its permissions.
            let (file, part) = PartFile::beside(fs::canonicalize(path)?)?;
            file.set_permissions(found.permissions())?;
            Ok((Box::new(file), Some(part)))
        }
        Err(_) => {
            let (file, part) = PartFile::beside(path.to_owned())?;
            Ok((Box::new(file), Some(part)))
        }
    }
}

/// A file on its way to its name; gone again if it never gets there.
pub struct PartFile {
    beside: PathBuf,
    path: PathBuf,
}

impl PartFile {
    fn beside(path: PathBuf) -> io::Result<(File, PartFile)> {
        let mut beside = path.as_os_str().to_owned();
        beside.push(format!(".{}.part", std::process::id()));
        let beside = PathBuf::from(beside);
        let file = File::create(&beside)?;
        Ok((file, PartFile { beside, path }))
    }

    /// Everything is written: syncs the file and gives it its name.
    pub fn name(self) -> io::Result<()> {
        File::open(&self.beside)?.sync_all()?;
        fs::rename(&self.beside, &self.path)
    }
}

impl Drop for PartFile {
    fn drop(&mut self) {
        // After `name` there is nothing left under this name.
        let _ = fs::remove_file(&self.beside);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_appears_when_it_is_named_and_never_otherwise() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.csv");
        let files = || fs::read_dir(folder.path()).unwrap().count();
        for named in [false, true] {
            let (mut out, part) = open(Some(&path)).unwrap();
            out.write_all(b"a,b\n").unwrap();
            drop(out);
            assert!(!path.exists());
            match part {
                Some(part) if named => part.name().unwrap(),
                part => drop(part),
            }
            assert_eq!(files(), usize::from(named));
        }
        assert_eq!(fs::read(&path).unwrap(), b"a,b\n");
    }

    #[test]
    fn folders_are_refused_before_anything_is_asked() {
        let folder = tempfile::tempdir().unwrap();
        assert!(check(folder.path()).unwrap_err().contains("is a folder"));
        assert!(check(&folder.path().join("none/rows.csv")).unwrap_err().contains("there is no folder"));
        assert_eq!(check(&folder.path().join("rows.csv")), Ok(()));
        assert_eq!(check(Path::new("rows.csv")), Ok(()));
    }

    #[cfg(unix)]
    #[test]
    fn a_link_keeps_its_place_and_a_socket_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let (target, link) = (folder.path().join("target"), folder.path().join("link"));
        fs::write(&target, "old").unwrap();
        std::os::unix::fs::symlink(&target, &link).unwrap();
        let (mut out, part) = open(Some(&link)).unwrap();
        out.write_all(b"new").unwrap();
        part.unwrap().name().unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read(&target).unwrap(), b"new");

        let socket = folder.path().join("socket");
        let _bound = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        assert!(open(Some(&socket)).is_err(), "a socket cannot be opened, and stays what it is");
        assert!(!fs::metadata(&socket).unwrap().is_file());
    }
}
