/// An archive in the format "newc", which kernels unpack into their first root.
#[derive(Debug, Default)]
pub(crate) struct Cpio {
    bytes: Vec<u8>,
    entries: u32,
}

const DIRECTORY: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const DEVICE: u32 = 0o020_000;

impl Cpio {
    /// A directory; its parent has to come before it. Names have no slash at their beginning.
    pub(crate) fn directory(&mut self, name: &str) {
        self.entry(name, DIRECTORY | 0o755, &[], (0, 0));
    }

    pub(crate) fn file(&mut self, name: &str, mode: u32, content: &[u8]) {
        self.entry(name, FILE | mode, content, (0, 0));
    }

    pub(crate) fn device(&mut self, name: &str, major: u32, minor: u32) {
        self.entry(name, DEVICE | 0o600, &[], (major, minor));
    }

    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, &[], (0, 0));
        self.bytes
    }

    fn entry(&mut self, name: &str, mode: u32, content: &[u8], device: (u32, u32)) {
        self.entries += 1;
        let links = if mode & DIRECTORY != 0 && mode & FILE == 0 { 2 } else { 1 };
        let size = u32::try_from(content.len()).expect("no file for a guest's start has 4 GiB");
        let name_size = u32::try_from(name.len() + 1).expect("names are short");
        // Number, mode, user, group, links, time, size, device, its own device, length of the name, no checksum.
        let fields = [self.entries, mode, 0, 0, links, 0, size, 0, 0, device.0, device.1, name_size, 0]
            .map(|field| format!("{field:08x}"));
        self.bytes.extend_from_slice(b"070701");
        self.bytes.extend(fields.concat().bytes());
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_has_its_entries_at_multiples_of_four_with_their_sizes_and_a_trailer() {
        let mut cpio = Cpio::default();
        cpio.directory("dev");
        cpio.device("dev/console", 5, 1);
        cpio.file("init", 0o755, b"hello");
        let bytes = cpio.finish();
        let text = String::from_utf8(bytes.clone()).expect("all of it is text");
        let mut at = 0;
        let mut found = Vec::new();
        while at < bytes.len() {
            assert_eq!(&text[at..at + 6], "070701");
            let field = |n: usize| {
                u32::from_str_radix(&text[at + 6 + n * 8..at + 14 + n * 8], 16).expect("hex") as usize
            };
            let (mode, size, name_size) = (field(1), field(6), field(11));
            let name = &text[at + 110..at + 110 + name_size - 1];
            let content = (at + 110 + name_size).next_multiple_of(4);
            found.push((
                name.to_owned(),
                mode,
                text[content..content + size].to_owned(),
                (field(9), field(10)),
            ));
            at = (content + size).next_multiple_of(4);
        }
        let entry =
            |name: &str, mode, content: &str, device| (name.to_owned(), mode, content.to_owned(), device);
        assert_eq!(
            found,
            [
                entry("dev", 0o040_755, "", (0, 0)),
                entry("dev/console", 0o020_600, "", (5, 1)),
                entry("init", 0o100_755, "hello", (0, 0)),
                entry("TRAILER!!!", 0, "", (0, 0)),
            ]
        );
    }
}
