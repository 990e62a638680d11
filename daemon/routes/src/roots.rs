//! Roots of trust for a webhook, as the operator and the daemon read them.

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

/// All certificates of a text in PEM, if there are any and all can be roots: that they decode says little.
#[must_use]
pub fn certificates(pem: &[u8]) -> Option<Vec<CertificateDer<'static>>> {
    let roots: Vec<_> = CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().ok()?;
    let mut store = RootCertStore::empty();
    let usable = roots.iter().all(|root| store.add(root.clone()).is_ok());
    (usable && !roots.is_empty()).then_some(roots)
}
