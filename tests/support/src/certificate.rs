//! The servers' TLS certificate.

use std::sync::{Arc, OnceLock};

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};

/// A self-signed certificate for `localhost`, and who trusts it.
pub struct Certificate {
    /// The certificate as PEM text.
    pub certificate_pem: String,
    /// Its private key as PEM text.
    pub key_pem: String,
    der: CertificateDer<'static>,
}

impl Certificate {
    /// The one certificate of this process, made when first asked for.
    ///
    /// # Panics
    ///
    /// When it cannot be made.
    pub fn get() -> &'static Certificate {
        static CERTIFICATE: OnceLock<Certificate> = OnceLock::new();
        CERTIFICATE.get_or_init(|| {
            let made =
                rcgen::generate_simple_self_signed([Self::name().to_owned()]).expect("a certificate can be made");
            Certificate {
                certificate_pem: made.cert.pem(),
                key_pem: made.signing_key.serialize_pem(),
                der: made.cert.der().clone(),
            }
        })
    }

    /// The host name that it is for.
    pub fn name() -> &'static str {
        "localhost"
    }

    /// The same as a TLS client wants it.
    pub(crate) fn server_name() -> ServerName<'static> {
        ServerName::try_from(Self::name()).expect("a valid name")
    }

    /// Settings for a TLS client that trusts this certificate only and offers `protocol` by ALPN.
    pub(crate) fn client_config(&self, protocol: &[u8]) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone()).expect("our own certificate can be trusted");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring speaks TLS 1.2 and 1.3")
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![protocol.to_vec()];
        Arc::new(config)
    }
}
