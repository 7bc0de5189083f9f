//! The rows of TC609-6-2025-16, sections 7 and 8, and how far this release comes.
//!
//! A row is `Reached` if nothing that it asks for is missing, and it names the command that shows it; a
//! row without such a command is `NotYet`. Change a row in the commit that changes the fact.

/// From which level on the document asks for an ability.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Level {
    Basic,
    Extended,
}

impl Level {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Basic => "基础级",
            Self::Extended => "扩展级",
        }
    }
}

/// How far this release comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Reached,
    Partly,
    NotYet,
}

impl State {
    /// For people.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Reached => "reached",
            Self::Partly => "partly",
            Self::NotYet => "not yet",
        }
    }

    /// For programs.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Reached => "reached",
            Self::Partly => "partly",
            Self::NotYet => "not_yet",
        }
    }
}

/// One ability that an evaluation looks at.
#[derive(Debug)]
pub(super) struct Row {
    /// Section and letter.
    pub(super) number: &'static str,
    pub(super) name: &'static str,
    pub(super) english: &'static str,
    pub(super) level: Level,
    pub(super) state: State,
    /// Shows on a box what there is.
    pub(super) command: Option<&'static str>,
    /// What the row asks for and this release has not.
    pub(super) missing: Option<&'static str>,
}

const fn reached(
    number: &'static str,
    names: (&'static str, &'static str),
    level: Level,
    command: &'static str,
) -> Row {
    let (name, english) = names;
    let (command, missing) = (Some(command), None);
    Row { number, name, english, level, state: State::Reached, command, missing }
}

const fn partly(
    number: &'static str,
    names: (&'static str, &'static str),
    level: Level,
    command: &'static str,
    missing: &'static str,
) -> Row {
    let (name, english) = names;
    let (command, missing) = (Some(command), Some(missing));
    Row { number, name, english, level, state: State::Partly, command, missing }
}

const fn not_yet(
    number: &'static str,
    names: (&'static str, &'static str),
    level: Level,
    missing: &'static str,
) -> Row {
    let (name, english) = names;
    Row {
        number,
        name,
        english,
        level,
        state: State::NotYet,
        command: None,
        missing: Some(missing),
    }
}

use Level::{Basic, Extended};

pub(super) const ROWS: [Row; 29] = [
    not_yet(
        "7.1a",
        ("用户身份管理能力", "people who use the connector: accounts and log-in"),
        Basic,
        "accounts of people; the command line trusts the operating system",
    ),
    partly(
        "7.1b",
        ("连接器身份管理能力", "the connector's own identity, keys and abilities"),
        Basic,
        "guan identity show",
        "a description of what the connector can do; its 32-character id stands in the catalogue only",
    ),
    partly(
        "7.1c",
        ("身份认证授权能力", "who connects is identified and gets rights"),
        Basic,
        "guan config show",
        "subjects other than MQTT clients and the space",
    ),
    partly(
        "7.2a",
        ("资源接入能力", "taking local data of many kinds in"),
        Extended,
        "guan status",
        "any source but MQTT: object stores, databases, file servers",
    ),
    not_yet(
        "7.2b",
        ("资源管理能力", "deleting and changing resources"),
        Extended,
        "commands for resources; datasets are lines of the configuration",
    ),
    partly(
        "7.2c",
        ("资源目录能力", "a catalogue of resources, graded and searchable"),
        Extended,
        "guan catalogue show",
        "the code tables of NDI-TR-2025-06; the space searches what the box sends",
    ),
    partly(
        "7.3a",
        ("数据产品封装能力", "making data resources into products with policies"),
        Basic,
        "guan catalogue show",
        "products other than an offer of whole datasets",
    ),
    partly(
        "7.3b",
        ("数据产品上架能力", "offering products at the service platform"),
        Basic,
        "guan catalogue export",
        "a platform other than this space, whose members see offers come and go with the catalogue",
    ),
    not_yet(
        "7.3c",
        ("数据产品目录能力", "searching products and applying for them"),
        Basic,
        "searching on the box, which the space does; applying",
    ),
    partly(
        "7.4a",
        ("合约创建能力", "making a contract from product and template"),
        Basic,
        "guan contract convert contract.json --to tds",
        "templates and numbers of the platform, and the interfaces of TC609-6-2025-14, annex B; drafts \
         are written by hand, checked, and put into the document's form",
    ),
    partly(
        "7.4b",
        ("合约协商能力", "negotiating and signing between the parties"),
        Extended,
        "guan contract negotiate list",
        "the binding to HTTP; it goes over the link, between box and space",
    ),
    partly(
        "7.4c",
        ("合约履行能力", "fulfilment starts by itself and is watched"),
        Basic,
        "guan log show --kind contract.change",
        "fulfilment at the consumer's end; what came is compared and acknowledged at the space",
    ),
    partly(
        "7.5a",
        ("交付数据处理能力", "data is transformed as the contract demands"),
        Basic,
        "guan contract explain --point machine.temperature --value 97.3",
        "encryption for the recipient",
    ),
    partly(
        "7.5b",
        ("交付数据传输能力", "safe, reliable and complete delivery"),
        Basic,
        "guan status",
        "delivery to another connector; all goes to the space",
    ),
    partly(
        "7.5c",
        ("交付存证能力", "processing and delivery stand in a log that is reported"),
        Basic,
        "guan log verify",
        "the report to the service platform",
    ),
    not_yet(
        "7.6a",
        ("数据使用环境", "a safe environment in which consumers use data"),
        Basic,
        "the environment; the space exports files",
    ),
    not_yet(
        "7.6b",
        ("使用安全能力", "privacy computing, sandboxes, computing on ciphertext"),
        Extended,
        "all of it",
    ),
    partly(
        "7.6c",
        ("控制策略执行能力", "policies are enforced and violations are stopped"),
        Basic,
        "guan contract explain --point machine.temperature --value 97.3",
        "control after data has left: there is no environment of use to work with",
    ),
    partly(
        "7.6d",
        ("使用存证能力", "use stands in a log that cannot be altered"),
        Basic,
        "guan log verify",
        "what consumers do with data, and the report",
    ),
    reached(
        "8.1a",
        ("数字合约完整性保障能力", "contracts are checked for alteration before use"),
        Basic,
        "guan contract check",
    ),
    partly(
        "8.1b",
        ("数字合约真实性保障能力", "parties know the rules and are who they say"),
        Basic,
        "guan contract check",
        "certificates of parties from a registry; their keys are listed by hand",
    ),
    partly(
        "8.2a",
        ("数据安全分级能力", "grading of data, and protection by grade"),
        Basic,
        "guan config show",
        "the scope of influence as a dimension, and grades of products",
    ),
    reached(
        "8.2b",
        ("数据传输安全能力", "data is encrypted and signed on its way"),
        Basic,
        "guan cert show",
    ),
    partly(
        "8.2c",
        ("数据存储安全能力", "stored data is safe, whole and available"),
        Basic,
        "guan spool verify",
        "boxes without a sealed store keep the root of their keys in a file; the log is not enciphered",
    ),
    not_yet(
        "8.2d",
        ("数据计算安全能力", "sandboxes and trusted execution environments"),
        Basic,
        "all of it",
    ),
    partly(
        "8.3a",
        ("运行维护安全能力", "safe operation, against theft and abuse"),
        Basic,
        "guan check",
        "roles of operators, and signed updates",
    ),
    partly(
        "8.3b",
        ("日志记录安全能力", "key operations are logged"),
        Basic,
        "guan log verify",
        "joining and renewal of identities, and what consumers do",
    ),
    reached(
        "8.3c",
        ("日志存证安全能力", "the log is protected against alteration"),
        Basic,
        "guan log verify",
    ),
    partly(
        "8.3d",
        ("合规审计安全能力", "a standing way to audit operations"),
        Basic,
        "guan log export --out bundle.tar",
        "search over the log by time and subject",
    ),
];
