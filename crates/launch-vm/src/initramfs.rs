use crate::cpio::Cpio;
use crate::kernel::Kernel;
use crate::modules::{read, wanted};

/// PID 1 of every guest.
const INIT: &[u8] = include_bytes!(env!("PROCESSION_VM_INIT"));

/// What a guest's kernel starts with: PID 1, the modules that it loads, and the command that it runs in the image.
///
/// # Errors
/// A module cannot be read.
pub(crate) fn initramfs(kernel: &Kernel, agent: &[String]) -> Result<Vec<u8>, String> {
    let mut cpio = Cpio::default();
    for directory in ["dev", "proc", "sys", "root", "modules"] {
        cpio.directory(directory);
    }
    // What PID 1 says before it has mounted anything goes there.
    cpio.device("dev/console", 5, 1);
    cpio.file("init", 0o755, INIT);
    cpio.file("agent", 0o644, agent.iter().map(|word| format!("{word}\0")).collect::<String>().as_bytes());
    let mut order = String::new();
    if let Some(modules) = &kernel.modules {
        let list = modules.join("modules.dep");
        let text = std::fs::read_to_string(&list).map_err(|error| format!("{}: {error}", list.display()))?;
        for (at, path) in wanted(&text).into_iter().enumerate() {
            let name = format!("{at}.ko");
            cpio.file(&format!("modules/{name}"), 0o644, &read(&modules.join(&path))?);
            order.push_str(&name);
            order.push('\n');
        }
    }
    cpio.file("modules/order", 0o644, order.as_bytes());
    Ok(cpio.finish())
}
