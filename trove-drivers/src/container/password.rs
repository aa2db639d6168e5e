use trove_core::{
    datastore::GuestHost,
    error::Result,
    secret::{ExposeSecret, SecretString, generate_password},
};

use super::state_file::{StateFile, read, write};

/// 43 letters and digits carry 256 bits.
const LENGTH: usize = 43;

/// Returns the password of the administrator, for servers that cannot authenticate by the socket.
/// It is created once and kept in the agent's directory, out of the server's reach. Blocks.
pub fn admin_password(host: &GuestHost) -> Result<SecretString> {
    let path = host.directory.join("password.json");
    if let StateFile::Found(known) = read::<String>(&path)? {
        return Ok(known.into());
    }
    let password = generate_password(LENGTH)?;
    write(&path, &password.expose_secret())?;
    Ok(password)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use trove_core::id::InstanceId;

    use super::*;

    #[test]
    fn admin_passwords_are_persistent_and_private() {
        let directory = tempfile::tempdir().unwrap();
        let host = GuestHost::new(InstanceId::new_v4(), "/v", directory.path().join("guest"));
        let password = admin_password(&host).unwrap();
        assert_eq!(password.expose_secret().len(), LENGTH);
        assert_eq!(admin_password(&host).unwrap().expose_secret(), password.expose_secret());
        let file = std::fs::metadata(host.directory.join("password.json")).unwrap();
        assert_eq!(file.permissions().mode() & 0o777, 0o600);
        std::fs::write(host.directory.join("password.json"), "\"").unwrap();
        assert_ne!(admin_password(&host).unwrap().expose_secret(), password.expose_secret());
    }
}
