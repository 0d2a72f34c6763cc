//! What a run leaves behind for the search at its end: see `.ci/canaries`, which sets `PGVEIL_TEST_KEEP`.

use std::path::PathBuf;

use pgveil::demo::cluster::Cluster;
use tempfile::TempDir;

/// Where to; `None` when nobody will search this run as a whole.
fn kept() -> Option<PathBuf> {
    std::env::var_os("PGVEIL_TEST_KEEP").map(PathBuf::from)
}

/// A folder for a proxy: its configuration, log, metrics and access log.
pub fn site_folder() -> TempDir {
    let mut builder = tempfile::Builder::new();
    builder.prefix("pgveil-site-");
    let Some(kept) = kept() else { return builder.tempdir().expect("a temporary folder") };
    let mut folder = builder.tempdir_in(kept).expect("PGVEIL_TEST_KEEP is writable");
    folder.disable_cleanup(true);
    folder
}

/// The cluster's folder, with all its files and its log, is among what is searched.
pub fn keep_cluster(cluster: &Cluster) {
    let Some(kept) = kept() else { return };
    let folder = cluster.keep().unwrap_or_else(|e| panic!("{e}"));
    let name = folder.file_name().expect("a folder has a name");
    std::os::unix::fs::symlink(folder, kept.join(name)).expect("PGVEIL_TEST_KEEP is writable");
}
