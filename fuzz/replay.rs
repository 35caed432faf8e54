//! Runs a target of the fuzzer over its corpus, and over what is like it, in an ordinary test.

use std::path::Path;

const MUTATIONS: usize = 5_000;
const LONGEST: usize = 8192;

/// Random numbers that are the same in every run.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }
}

pub(crate) fn replay(target: &str, run: impl Fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
    let mut files: Vec<_> = folder.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let corpus: Vec<Vec<u8>> = files.iter().map(|file| std::fs::read(file).unwrap()).collect();
    assert!(corpus.len() >= 5, "a corpus of {} in {}", corpus.len(), folder.display());
    for (file, data) in files.iter().zip(&corpus) {
        println!("{}", file.display());
        run(data);
    }
    let mut numbers = Numbers(0x5eed);
    for number in 0..MUTATIONS {
        let data = mutated(&corpus, &mut numbers);
        println!("mutation {number}: {:02x?}", &data[..data.len().min(300)]);
        run(&data);
    }
}

fn mutated(corpus: &[Vec<u8>], numbers: &mut Numbers) -> Vec<u8> {
    let mut data = corpus[numbers.below(corpus.len())].clone();
    for _ in 0..=numbers.below(4) {
        let at = numbers.below(data.len() + 1);
        match numbers.below(5) {
            0 if at < data.len() => data[at] ^= 1 << numbers.below(8),
            1 if at < data.len() => data[at] = numbers.next() as u8,
            2 => data.insert(at, numbers.next() as u8),
            3 => data.truncate(at),
            _ => {
                let other = &corpus[numbers.below(corpus.len())];
                data.truncate(at);
                data.extend_from_slice(&other[numbers.below(other.len() + 1)..]);
            }
        }
    }
    data.truncate(LONGEST);
    data
}
