//! The log read for copying: once each, only what is durable, gaps said.

use super::*;

fn all(durable: &mut Durable, bytes_max: u64) -> (Vec<u64>, Vec<(u64, u64)>) {
    let (mut seqs, mut gaps) = (Vec::new(), Vec::new());
    loop {
        let before = durable.at();
        let batch = durable.next(bytes_max).unwrap();
        seqs.extend(batch.events.iter().map(|kept| kept.event.connection));
        gaps.extend(batch.gaps.iter().map(|gap| (*gap.start(), *gap.end())));
        if durable.at() == before {
            assert_eq!(batch.left, 0);
            return (seqs, gaps);
        }
    }
}

#[test]
fn every_event_comes_once_whatever_the_batch_and_wherever_reading_stops() {
    let (_dir, path) = sample();
    let expected: Vec<u64> = (0..62).collect();
    for bytes_max in [1, 700, 5_000, u64::MAX] {
        assert_eq!(all(&mut Durable::after(&path, Position::default()), bytes_max), (expected.clone(), vec![]));
        let (mut found, mut at) = (Vec::new(), Position::default());
        loop {
            // As after a restart: only the place is known.
            let mut durable = Durable::after(&path, at);
            let batch = durable.next(bytes_max).unwrap();
            found.extend(batch.events.iter().map(|kept| kept.event.connection));
            if durable.at() == at {
                break;
            }
            at = durable.at();
        }
        assert_eq!(found, expected, "batches of {bytes_max}");
        assert_eq!(at.seq, durable_seq(&path).unwrap());
    }
}

#[test]
fn what_is_not_durable_is_not_read() {
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(dir.path());
    let mut durable = Durable::after(&settings.dir, Position::default());
    assert!(durable.next(u64::MAX).unwrap().events.is_empty(), "there is no log yet");
    let (mut log, _) = open(&settings, key(), &[1; 16], 1).unwrap();
    for number in 0..200 {
        log.append(&login(number));
        log.flush(2).unwrap();
        let read = durable.next(u64::MAX).unwrap();
        assert!(read.events.is_empty(), "{number} is in the file and not on the device");
        log.sync(3).unwrap();
        let read = durable.next(u64::MAX).unwrap();
        assert_eq!((read.events.len(), read.events[0].event.connection, read.left), (1, number, 0));
        assert!(read.gaps.is_empty());
    }
    assert!(segments(&settings.dir).len() > 2, "across segments");
}

#[test]
fn what_is_missing_or_rewritten_is_a_gap() {
    let (_dir, path) = sample();
    let files = segments(&path);
    let first = |file: &Path| record::decode(lines(file)[0].trim_ascii_end()).unwrap().seq;
    fs::remove_file(&files[0]).unwrap();
    let (found, gaps) = all(&mut Durable::after(&path, Position::default()), 700);
    assert_eq!(gaps, [(1, first(&files[1]) - 1)], "a segment was pruned");
    assert!(found.len() < 62 && found.last() == Some(&61));
    let mut kept = lines(&files[1]);
    let at = kept.iter().position(|line| line.windows(8).any(|part| part == b"\"login\",")).unwrap();
    kept[at][20] ^= 1;
    fs::write(&files[1], kept.concat()).unwrap();
    let (_, gaps) = all(&mut Durable::after(&path, Position::default()), u64::MAX);
    let seq = first(&files[1]) + at as u64;
    assert_eq!(gaps, [(1, first(&files[1]) - 1), (seq, seq)], "a record is not what was written");
}

#[test]
fn another_log_is_not_taken_for_the_one_that_was_copied() {
    let (_dir, path) = sample();
    let mut durable = Durable::after(&path, Position::default());
    durable.next(3_000).unwrap();
    let at = durable.at();
    assert!(at.seq > 5);
    let other = Position { seq: at.seq, hash: [9; 32] };
    let said = Durable::after(&path, other).next(u64::MAX).unwrap_err().to_string();
    assert!(said.contains("not the one that was copied"), "{said}");
    let beyond = Position { seq: 1_000, hash: at.hash };
    assert!(Durable::after(&path, beyond).next(u64::MAX).is_err(), "an older copy was put back");
}

#[test]
fn records_of_a_segment_that_was_given_up_come_once() {
    let disk = fake::FakeDisk::default();
    let dir = tempfile::tempdir().unwrap();
    let mut log = disk.log(1 << 20);
    log.append(&login(0));
    log.sync(1).unwrap();
    log.append(&login(1));
    log.append(&login(2));
    log.flush(2).unwrap();
    let first = disk::segment_name(1);
    let before = disk.with(|inner| inner.files[&first].clone());
    disk.with(|inner| inner.failing_syncs = 1);
    log.sync(3).unwrap_err();
    log.sync(4).unwrap();
    log.append(&login(3));
    log.close(5).unwrap();
    // Cutting the given-up segment had failed too.
    disk.with(|inner| inner.files.insert(first, before));
    disk.dump(dir.path());
    for bytes_max in [1, u64::MAX] {
        let found = all(&mut Durable::after(dir.path(), Position::default()), bytes_max);
        assert_eq!(found, (vec![0, 1, 2, 3], vec![]));
    }
}

#[test]
fn a_log_keeps_its_name() {
    let (_dir, path) = sample();
    assert_eq!(instance(&path, || 7).unwrap(), 7);
    assert_eq!(instance(&path, || 8).unwrap(), 7);
    fs::write(path.join("instance"), "what").unwrap();
    assert!(instance(&path, || 8).unwrap_err().to_string().contains("remove the file"));
}

#[test]
fn what_is_searched_says_what_is_missing() {
    let (_dir, path) = sample();
    let search = Search { people: Vec::new(), since_us: 0, limit: 1, tables: Tables::default() };
    let found = |path: &Path| who_saw(path, &search, &mut |_, _| ()).unwrap();
    let whole = found(&path);
    assert_eq!((whole.missing, whole.begins_us), (0, Some(login(0).at_us)));
    let files = segments(&path);
    let first = |file: &Path| record::decode(lines(file)[0].trim_ascii_end()).unwrap().seq;
    let (second, third) = (first(&files[1]), first(&files[2]));
    let kept = lines(&files[1]);
    let cut: Vec<u8> = [kept[..kept.len() - 2].concat(), kept[kept.len() - 2][..30].to_vec()].concat();
    fs::write(&files[1], cut).unwrap();
    assert_eq!(found(&path).missing, 2, "the end of a segment is not what was written");
    fs::remove_file(&files[1]).unwrap();
    assert_eq!(found(&path).missing, third - second);
}
