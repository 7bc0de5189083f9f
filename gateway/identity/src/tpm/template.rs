//! What our keys look like to a TPM.

use tss_esapi::abstraction::KeyCustomization;
use tss_esapi::attributes::{ObjectAttributes, ObjectAttributesBuilder};
use tss_esapi::constants::tss::{TPM2_RH_NULL, TPM2_ST_HASHCHECK};
use tss_esapi::interface_types::algorithm::{HashingAlgorithm, PublicAlgorithm};
use tss_esapi::interface_types::ecc::EccCurve;
use tss_esapi::structures::{
    EccPoint, EccScheme, HashScheme, HashcheckTicket, KeyDerivationFunctionScheme, Public,
    PublicBuilder, PublicEccParameters, PublicEccParametersBuilder, SymmetricDefinitionObject,
};
use tss_esapi::tss2_esys::TPMT_TK_HASHCHECK;

/// An attestation key that three unclean stops do not lock.
pub(super) struct FreeOfLockout;

impl KeyCustomization for FreeOfLockout {
    fn attributes(&self, builder: ObjectAttributesBuilder) -> ObjectAttributesBuilder {
        builder.with_no_da(true)
    }
}

fn common() -> ObjectAttributesBuilder {
    ObjectAttributes::builder()
        .with_fixed_tpm(true)
        .with_fixed_parent(true)
        .with_sensitive_data_origin(true)
        .with_user_with_auth(true)
        .with_no_da(true)
}

fn p256(
    attributes: ObjectAttributes,
    parameters: PublicEccParameters,
) -> tss_esapi::Result<Public> {
    PublicBuilder::new()
        .with_public_algorithm(PublicAlgorithm::Ecc)
        .with_name_hashing_algorithm(HashingAlgorithm::Sha256)
        .with_object_attributes(attributes)
        .with_ecc_parameters(parameters)
        .with_ecc_unique_identifier(EccPoint::default())
        .build()
}

/// Parent of the TLS keys.
pub(super) fn storage_root() -> tss_esapi::Result<Public> {
    let parameters = PublicEccParametersBuilder::new()
        .with_symmetric(SymmetricDefinitionObject::AES_128_CFB)
        .with_ecc_scheme(EccScheme::Null)
        .with_curve(EccCurve::NistP256)
        .with_key_derivation_function_scheme(KeyDerivationFunctionScheme::Null)
        .with_is_decryption_key(true)
        .with_restricted(true)
        .build()?;
    p256(common().with_decrypt(true).with_restricted(true).build()?, parameters)
}

/// Signs what TLS gives it: not restricted, so its signatures never pass for a TPM's own word.
pub(super) fn tls_key() -> tss_esapi::Result<Public> {
    let parameters = PublicEccParametersBuilder::new()
        .with_symmetric(SymmetricDefinitionObject::Null)
        .with_ecc_scheme(EccScheme::EcDsa(HashScheme::new(HashingAlgorithm::Sha256)))
        .with_curve(EccCurve::NistP256)
        .with_key_derivation_function_scheme(KeyDerivationFunctionScheme::Null)
        .with_is_signing_key(true)
        .build()?;
    p256(common().with_sign_encrypt(true).build()?, parameters)
}

/// "This digest was made elsewhere": enough for a key that is not restricted.
pub(super) fn no_ticket() -> tss_esapi::Result<HashcheckTicket> {
    let none = TPMT_TK_HASHCHECK {
        tag: TPM2_ST_HASHCHECK,
        hierarchy: TPM2_RH_NULL,
        digest: Default::default(),
    };
    none.try_into()
}
