//! A committed cache, opened to load partitions from it. Whether it is up to date is asked of its manifest.

use std::fs;
use std::path::PathBuf;

use crate::counts::Counts;
use crate::error::Error;
use crate::manifest::{FILE_NAME, Manifest, PartitionEntry};
use crate::parquet_file::decode;
use crate::partition::Partition;
use crate::partition_file::PartitionFile;
use crate::schema::LAYOUT_VERSION;

/// The Parquet cache of a data set, as it was committed last.
#[derive(Debug, Clone)]
pub struct Cache {
    folder: PathBuf,
    manifest: Manifest,
}

impl Cache {
    /// Reads the manifest and nothing else. [`Error::NoCache`] if nothing was committed in this folder;
    /// [`Error::OtherLayout`] if another version of this program made it.
    pub fn open(folder: impl Into<PathBuf>) -> Result<Cache, Error> {
        let folder = folder.into();
        let manifest = Manifest::read(&folder)?;
        if manifest.layout_version != LAYOUT_VERSION {
            return Err(Error::OtherLayout {
                path: folder.join(FILE_NAME),
                found: format!("layout version {}", manifest.layout_version),
                wanted: format!("layout version {LAYOUT_VERSION}"),
            });
        }
        Ok(Cache { folder, manifest })
    }

    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// How often each concentration occurs; `None` if it was not kept. Checked like a partition.
    pub fn counts(&self) -> Result<Option<Counts>, Error> {
        let Some(named) = &self.manifest.counts else { return Ok(None) };
        let path = self.folder.join(&named.file);
        let corrupt = |reason: String| Error::CorruptPartition { path: path.clone(), reason };
        let file = fs::read(&path).map_err(Error::io("read", &path))?;
        if file.len() as u64 != named.bytes || blake3::hash(&file).to_hex().as_str() != named.digest {
            return Err(corrupt("its digest is not the one in the manifest".into()));
        }
        Counts::read(file).map(Some).ok_or_else(|| corrupt("it is not of the form of counts".into()))
    }

    /// Reads a partition's file and checks that its bytes are those that were committed; nothing is decoded.
    /// [`Error::CorruptPartition`] names what differs.
    pub fn verify(&self, entry: &PartitionEntry) -> Result<(), Error> {
        self.read(entry).map(drop)
    }

    /// The file's bytes, of the length and digest in the manifest.
    fn read(&self, entry: &PartitionEntry) -> Result<Vec<u8>, Error> {
        let path = self.folder.join(&entry.file);
        let corrupt = |reason: String| Error::CorruptPartition { path: path.clone(), reason };
        let bytes = fs::metadata(&path).map_err(Error::io("open", &path))?.len();
        if bytes != entry.file_bytes {
            return Err(corrupt(format!("it has {bytes} bytes, the manifest says {}", entry.file_bytes)));
        }
        let file = fs::read(&path).map_err(Error::io("read", &path))?;
        if blake3::hash(&file).to_hex().as_str() != entry.file_digest {
            return Err(corrupt("its digest is not the one in the manifest".into()));
        }
        Ok(file)
    }

    /// Loads a partition. The file's length and digest are checked before a byte of it is decoded, its rows and
    /// columns after; [`Error::CorruptPartition`] names what differs.
    pub fn load(&self, entry: &PartitionEntry) -> Result<Partition, Error> {
        let file = self.read(entry)?;
        let corrupt = |reason: String| Error::CorruptPartition { path: self.folder.join(&entry.file), reason };
        let batch = decode(file).map_err(corrupt)?;
        if batch.num_rows() as u64 != entry.rows {
            return Err(corrupt(format!("it has {} rows, the manifest says {}", batch.num_rows(), entry.rows)));
        }
        Ok(Partition {
            id: entry.id,
            batch,
            zone_rows: self.manifest.zone_rows,
            csv_bytes: entry.csv_bytes,
            stats: entry.stats.clone(),
        })
    }

    /// Opens a partition to read it in pieces. Its file is read whole once and compared with the manifest, like
    /// [`Cache::load`] does; nothing is decoded but its footer.
    pub fn open_partition(&self, entry: &PartitionEntry) -> Result<PartitionFile, Error> {
        let file = self.read(entry)?;
        PartitionFile::new(self.folder.join(&entry.file), file, entry.rows, self.manifest.zone_rows)
    }
}
