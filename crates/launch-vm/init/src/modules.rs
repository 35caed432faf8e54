use std::fs::{File, read_to_string};

use rustix::io::Errno;
use rustix::system::finit_module;

use crate::at;

/// Loads the modules that came along, in the order in which they need each other.
pub(crate) fn load() -> Result<(), String> {
    let list = at("/modules/order", read_to_string("/modules/order"))?;
    for name in list.lines() {
        let path = format!("/modules/{name}");
        let file = at(&path, File::open(&path))?;
        match finit_module(&file, c"", 0) {
            // It is there, or its device is not.
            Ok(()) | Err(Errno::EXIST | Errno::NODEV) => {}
            Err(error) => return Err(format!("{path}: {error}; is it of this kernel?")),
        }
    }
    Ok(())
}
