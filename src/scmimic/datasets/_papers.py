"""The real data of the papers that the models come from, as raw counts with their labels.

ACTIVA trains on `pbmc68k` and `neurons20k`, MichiGAN on `tabula_muris` and `sciplex3`; `kang18` is the usual example of
a treatment in several cell types. Cells and genes are those of the published files: choose among them by
:func:`scmimic.pp.recipe_marouf20` or scanpy.
"""

from __future__ import annotations

import os
import tarfile
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO

import anndata as ad
import numpy as np
import pandas as pd
import scanpy as sc
import scipy.sparse as sp
from anndata import AnnData
from anndata.utils import make_index_unique
from scipy.io import mmread

from scmimic import _keys
from scmimic.cells import check_counts
from scmimic.datasets._remote import RemoteFile, Source

_TENX = "https://cf.10xgenomics.com/samples/cell-exp"

PBMC68K = Source(
    "pbmc68k",
    "https://www.10xgenomics.com/datasets/fresh-68-k-pbm-cs-donor-a-1-standard-1-1-0 and "
    "https://github.com/10XGenomics/single-cell-3prime-paper/tree/master/pbmc68k_analysis",
    (
        RemoteFile(
            "fresh_68k_pbmc_donor_a_filtered_gene_bc_matrices.tar.gz",
            f"{_TENX}/1.1.0/fresh_68k_pbmc_donor_a/fresh_68k_pbmc_donor_a_filtered_gene_bc_matrices.tar.gz",
            "sha256:3f35f37ff344bc9b32f97cd003ac986ebb9b5d7f31006c53dff4cb38da267931",
        ),
        RemoteFile(
            "68k_pbmc_barcodes_annotation.tsv",
            "https://raw.githubusercontent.com/10XGenomics/single-cell-3prime-paper/master/pbmc68k_analysis/"
            "68k_pbmc_barcodes_annotation.tsv",
            "sha256:98dc85c047b56cb209ece200b7bebeb2ad53634ff3d5f42143987f59510624b3",
        ),
    ),
)
NEURONS20K = Source(
    "neurons20k",
    "https://support.10xgenomics.com/single-cell-gene-expression/datasets/1.3.0/1M_neurons",
    (
        RemoteFile(
            "1M_neurons_neuron20k.h5",
            f"{_TENX}/1.3.0/1M_neurons/1M_neurons_neuron20k.h5",
            "md5:7696db0199a30a36f857e86a1ad1da8d",
        ),
    ),
)
# Their publisher's page tells no checksum: the archive has one for each file in it, which reading compares.
TABULA_MURIS = Source(
    "tabula_muris",
    "https://figshare.com/projects/Tabula_Muris_Transcriptomic_characterization_of_20_organs_and_tissues_from_"
    "Mus_musculus_at_single_cell_resolution/27733",
    (
        RemoteFile("FACS.zip", "https://ndownloader.figshare.com/files/10700143"),
        RemoteFile("annotations_facs.csv", "https://ndownloader.figshare.com/files/13088129"),
    ),
)
# From release 1.4 on, the genes' names stand at the right counts; earlier ones have them shifted by one.
SCIPLEX3 = Source(
    "sciplex3",
    "https://zenodo.org/records/13350497",
    (
        RemoteFile(
            "SrivatsanTrapnell2020_sciplex3.h5ad",
            "https://zenodo.org/records/13350497/files/SrivatsanTrapnell2020_sciplex3.h5ad?download=1",
            "sha256:603ed16c5e25401c8a7f5bb0b2b045179701017d65dcfc6aeea71722a66cd10a",
        ),
    ),
)
KANG18 = Source(
    "kang18",
    "https://figshare.com/ndownloader/files/34464122 (in a browser)",
    (
        RemoteFile(
            "kang_2018.h5ad",
            "https://exampledata.scverse.org/pertpy/kang_2018.h5ad",
            "sha256:e6a5adac64dcdeb36eaba27db49b63e0c64bb0ed4a64c6705971506b41c39830",
        ),
    ),
)

_ANNOTATION = ("tissue", "subtissue", "free_annotation", "mouse.id", "mouse.sex", "plate.barcode")
_SPIKE_IN = "ERCC-"
_GENES_AT_ONCE = 2_000
_ASSIGNED_TO_NOTHING = ("nan", "None", "")


def pbmc68k(*, path: str | os.PathLike | None = None) -> AnnData:
    """Return 68,579 blood cells of one donor with their types (Zheng et al. 2017): ACTIVA's "68K PBMC".

    Two files of 10x Genomics, the counts and the cell types, are downloaded by the first call into
    ``scanpy.settings.datasetdir / "pbmc68k"`` and compared with their SHA-256.

    Parameters
    ----------
    path
        A folder with local copies of both: ``fresh_68k_pbmc_donor_a_filtered_gene_bc_matrices.tar.gz`` and
        ``68k_pbmc_barcodes_annotation.tsv``. None: download them once.

    Returns
    -------
    AnnData with:

    `adata.X` : CSR float32
        Raw counts (UMIs), cells x 32,738 genes.
    `adata.obs['cell_type']` : categorical
        11 types, by correlation with sorted populations.
    `adata.var['gene_ids']`
        Ensembl's name of the gene. Names of genes that occur twice have a number added.

    Raises
    ------
    ConnectionError
        If a file cannot be downloaded; it says where to get it.
    FileNotFoundError
        If a file is missing at `path`.
    ValueError
        If a download is damaged, counts are no counts, or cells have no type.

    See Also
    --------
    scmimic.datasets.pbmc68k_reduced : 700 of the cells, packaged.
    scmimic.pp.recipe_marouf20 : The preprocessing of the papers.

    Examples
    --------
    >>> import scmimic as sm
    >>> adata = sm.datasets.pbmc68k()  # doctest: +SKIP
    >>> adata.shape  # doctest: +SKIP
    (68579, 32738)
    """
    archive, annotation = PBMC68K.paths(path)
    counts, barcodes, genes = _read_tar(archive)
    types = pd.read_csv(annotation, sep="\t", dtype=str).set_index("barcodes")["celltype"].reindex(barcodes)
    if types.isna().any():
        raise ValueError(
            f"{int(types.isna().sum())} cells of {archive} have no type in {annotation}: the files are of different "
            "data sets."
        )
    obs = pd.DataFrame({_keys.OBS_CELL_TYPE: types.to_numpy()}, index=barcodes)
    var = pd.DataFrame({"gene_ids": genes[0].to_numpy()}, index=make_index_unique(pd.Index(genes[1].to_numpy())))
    return _finished(AnnData(counts, obs=obs, var=var), archive, labels=[_keys.OBS_CELL_TYPE])


def neurons20k(*, path: str | os.PathLike | None = None) -> AnnData:
    """Return 20,000 brain cells of embryonic mice (10x Genomics): ACTIVA's "Brain Small".

    They are a random sample of 1.3 million cells of cortex, hippocampus and subventricular zone at day 18. One file is
    downloaded by the first call into ``scanpy.settings.datasetdir / "neurons20k"`` and compared with its MD5.

    Parameters
    ----------
    path
        A local copy of ``1M_neurons_neuron20k.h5``, or a folder with it. None: download it once.

    Returns
    -------
    AnnData with:

    `adata.X` : CSR float32
        Raw counts (UMIs), cells x 27,998 genes. Genes whose symbol occurs twice have a number added to it.
    `adata.var['gene_ids']`
        Ensembl's name of the gene.

    Cell types are not published with it: the paper's are clusters.

    Raises
    ------
    ConnectionError
        If the file cannot be downloaded; it says where to get it.
    FileNotFoundError
        If it is missing at `path`.
    ValueError
        If the download is damaged, or counts are no counts.

    See Also
    --------
    scmimic.datasets.pbmc68k : Blood cells.
    scmimic.pp.recipe_marouf20 : The preprocessing of the papers.

    Examples
    --------
    >>> import scmimic as sm
    >>> adata = sm.datasets.neurons20k()  # doctest: +SKIP
    >>> adata.shape  # doctest: +SKIP
    (20000, 27998)
    """
    (file,) = NEURONS20K.paths(path)
    with warnings.catch_warnings():
        # they are made unique below
        warnings.filterwarnings("ignore", "Variable names are not unique", UserWarning)
        adata = sc.read_10x_h5(file, genome="mm10")
    return _finished(adata, file)


def tabula_muris(*, path: str | os.PathLike | None = None) -> AnnData:
    """Return cells of 20 organs of the mouse with their types (Tabula Muris Consortium 2018): MichiGAN's real data.

    Of the atlas' two parts, the cells sorted by FACS and sequenced by Smart-seq2: the one that has the paper's 2,026
    fibroblasts of the heart. Two files are downloaded from figshare by the first call into
    ``scanpy.settings.datasetdir / "tabula_muris"``. No checksum of them is published: that the archive is whole is
    told by its own check sums (CRC-32), and that every cell with a type has counts is checked.

    Parameters
    ----------
    path
        A folder with local copies of both: ``FACS.zip`` and ``annotations_facs.csv``. None: download them once.

    Returns
    -------
    AnnData with:

    `adata.X` : CSR float32
        Raw counts of reads (there are no UMIs). Spike-ins are left out.
    `adata.obs['cell_type']` : categorical
        The type (`cell_ontology_class`). Cells without one are left out.
    `adata.obs` : categorical
        What else the annotation has of `tissue`, `subtissue`, `free_annotation`, `mouse.id`, `mouse.sex` and
        `plate.barcode`.

    Raises
    ------
    ConnectionError
        If a file cannot be downloaded; it says where to get it.
    FileNotFoundError
        If a file is missing at `path`.
    ValueError
        If counts are no counts, cells with a type have none, or tissues have different genes.

    See Also
    --------
    scmimic.datasets.sciplex3 : Drugs.
    scmimic.datasets.kang18 : One stimulation.

    Examples
    --------
    >>> import scmimic as sm
    >>> adata = sm.datasets.tabula_muris()  # doctest: +SKIP
    >>> heart = adata[adata.obs["tissue"] == "Heart"]  # doctest: +SKIP
    """
    archive, annotation = TABULA_MURIS.paths(path)
    obs = pd.read_csv(annotation, index_col="cell", dtype=str)
    obs = obs.rename(columns={"cell_ontology_class": _keys.OBS_CELL_TYPE}).dropna(subset=[_keys.OBS_CELL_TYPE])
    columns = [_keys.OBS_CELL_TYPE, *(name for name in _ANNOTATION if name in obs)]
    parts = []
    with zipfile.ZipFile(archive) as files:
        # a copy packed on a Mac has hidden files of the same names beside
        names = (name for name in files.namelist() if not Path(name).name.startswith("._"))
        for name in sorted(name for name in names if name.endswith("-counts.csv")):
            with files.open(name) as table:
                parts.append(_read_tissue(table, obs.index))
    if not parts:
        raise ValueError(f"{archive} holds no table named TISSUE-counts.csv.")
    if any(not part.var_names.equals(parts[0].var_names) for part in parts):
        raise ValueError(f"Tissues in {archive} have different genes.")
    adata = ad.concat(parts)
    missing = obs.index.difference(adata.obs_names)
    if len(missing):
        raise ValueError(f"{len(missing)} cells of {annotation} have no counts in {archive}, such as {missing[0]!r}.")
    adata.obs = obs.loc[adata.obs_names, columns]
    return _finished(adata, archive, labels=columns)


def sciplex3(*, path: str | os.PathLike | None = None) -> AnnData:
    """Return cells of three cancer cell lines under 188 compounds (Srivatsan et al. 2020): MichiGAN's sci-Plex.

    One file (2.5 GB) of release 1.4 of scPerturb is downloaded by the first call into
    ``scanpy.settings.datasetdir / "sciplex3"`` and compared with its SHA-256. It has 799,317 cells, 110,983 genes and a
    thousand million counts, which take 8 GB of memory, and more than twice that while they are read.

    Parameters
    ----------
    path
        A local copy of ``SrivatsanTrapnell2020_sciplex3.h5ad``, or a folder with it. None: download it once.

    Returns
    -------
    AnnData with the columns of the file and:

    `adata.X` : CSR float32
        Raw counts (UMIs).
    `adata.obs['cell_type']` : categorical
        The cell line (`cell_line` in the file): A549, K562 or MCF7.
    `adata.obs['condition']` : categorical
        The compound's name (`perturbation` in the file), or `"control"`. Cells that were assigned to no line or no
        compound are left out. The paper's numbers of compounds (such as S1628) are not in the file.

    Raises
    ------
    ConnectionError
        If the file cannot be downloaded; it says where to get it.
    FileNotFoundError
        If it is missing at `path`.
    ValueError
        If the download is damaged, counts are no counts, a column is missing, or names of genes are shifted, as they
        are in earlier releases.

    See Also
    --------
    scmimic.datasets.kang18 : One stimulation.
    scmimic.tl.evaluate_perturbation : Measures of predictions.

    Examples
    --------
    >>> import scmimic as sm
    >>> adata = sm.datasets.sciplex3()  # doctest: +SKIP
    >>> sorted(adata.obs["cell_type"].cat.categories)  # doctest: +SKIP
    ['A549', 'K562', 'MCF7']
    """
    (file,) = SCIPLEX3.paths(path)
    adata = ad.read_h5ad(file)
    if "ensembl_id" in adata.var and str(adata.var["ensembl_id"].iloc[0]).startswith("id "):
        raise ValueError(
            f"{file} has the names of its genes shifted by one, as scPerturb's releases before 1.4 have. Take release "
            f"1.4: {SCIPLEX3.page}"
        )
    columns = {"cell_line": _keys.OBS_CELL_TYPE, "perturbation": _keys.OBS_CONDITION}
    _rename(adata, columns, file)
    labels = adata.obs[list(columns.values())]
    assigned = ~(labels.isna() | labels.astype(str).isin(_ASSIGNED_TO_NOTHING)).any(axis=1)
    if not assigned.all():
        adata = adata[assigned.to_numpy()].copy()
    return _finished(adata, file, labels=list(columns.values()))


def kang18(*, path: str | os.PathLike | None = None) -> AnnData:
    """Return blood cells of eight donors with and without interferon beta (Kang et al. 2018).

    One file (38 MB), as pertpy has it, is downloaded by the first call into ``scanpy.settings.datasetdir / "kang18"``
    and compared with its SHA-256.

    Parameters
    ----------
    path
        A local copy of ``kang_2018.h5ad``, or a folder with it. None: download it once.

    Returns
    -------
    AnnData with the columns of the file and:

    `adata.X` : CSR float32
        Raw counts (UMIs), 24,673 cells x 15,706 genes.
    `adata.obs['cell_type']` : categorical
        8 types.
    `adata.obs['condition']` : categorical
        `"control"` or `"stimulated"` (`label` in the file: `"ctrl"`, `"stim"`).
    `adata.obs['donor']` : categorical
        The donor (`replicate` in the file), where the file has it.

    Raises
    ------
    ConnectionError
        If the file cannot be downloaded; it says where to get it.
    FileNotFoundError
        If it is missing at `path`.
    ValueError
        If the download is damaged, counts are no counts, or a column is missing.

    See Also
    --------
    scmimic.datasets.sciplex3 : Drugs.
    scmimic.tl.latent_arithmetic : Cells of an unseen combination.

    Examples
    --------
    >>> import scmimic as sm
    >>> adata = sm.datasets.kang18()  # doctest: +SKIP
    >>> list(adata.obs["condition"].cat.categories)  # doctest: +SKIP
    ['control', 'stimulated']
    """
    (file,) = KANG18.paths(path)
    adata = ad.read_h5ad(file)
    adata.obs = adata.obs.rename(columns={"replicate": _keys.OBS_DONOR})
    _rename(adata, {"cell_type": _keys.OBS_CELL_TYPE, "label": _keys.OBS_CONDITION}, file)
    condition = adata.obs[_keys.OBS_CONDITION].astype(str)
    adata.obs[_keys.OBS_CONDITION] = condition.replace({"ctrl": "control", "stim": "stimulated"})
    labels = [_keys.OBS_CELL_TYPE, _keys.OBS_CONDITION, *([_keys.OBS_DONOR] if _keys.OBS_DONOR in adata.obs else [])]
    return _finished(adata, file, labels=labels)


def _read_tar(path: Path) -> tuple[sp.csr_matrix, pd.Index, pd.DataFrame]:
    """Counts (cells x genes), barcodes and genes of Cell Ranger's archive, which has them in folders."""
    with tarfile.open(path) as archive:
        members = {Path(name).name: name for name in archive.getnames()}

        def opened(name: str) -> IO[bytes]:
            stream = archive.extractfile(members[name]) if name in members else None
            if stream is None:
                raise ValueError(f"{path} holds no {name}.")
            return stream

        counts = sp.csr_matrix(mmread(opened("matrix.mtx")).T, dtype=np.float32)
        genes = pd.read_csv(opened("genes.tsv"), sep="\t", header=None, dtype=str)
        barcodes = pd.read_csv(opened("barcodes.tsv"), sep="\t", header=None, dtype=str)[0]
    return counts, pd.Index(barcodes.to_numpy()), genes


def _read_tissue(table: IO[bytes], cells: pd.Index) -> AnnData:
    """Those of `cells` that a table of genes x cells holds, without its spike-ins; a part of the genes at once."""
    names: list[str] = []
    rows = []
    kept = pd.Index([])
    for part in pd.read_csv(table, index_col=0, chunksize=_GENES_AT_ONCE):
        kept = part.columns[part.columns.isin(cells)]
        part = part.loc[~part.index.str.startswith(_SPIKE_IN), kept]
        names += part.index.tolist()
        rows.append(sp.csr_matrix(part.to_numpy(dtype=np.float32)))
    return AnnData(sp.vstack(rows).T.tocsr(), obs=pd.DataFrame(index=kept), var=pd.DataFrame(index=names))


def _rename(adata: AnnData, columns: Mapping[str, str], file: Path) -> None:
    """Give columns of `.obs` their names here, unless a local copy has these already."""
    for theirs, ours in columns.items():
        if ours in adata.obs:
            continue
        if theirs not in adata.obs:
            raise ValueError(f"{file} has no column {theirs!r} in `.obs`, only {list(adata.obs)}.")
        adata.obs = adata.obs.rename(columns={theirs: ours})


def _finished(adata: AnnData, file: Path, *, labels: list[str] | None = None) -> AnnData:
    """Raw counts in CSR float32, names that occur once, and labels as categories."""
    counts = sp.csr_matrix(adata.X, dtype=np.float32)
    counts.sort_indices()
    check_counts(counts, "X", hint=f"Is {file} the published file?")
    adata.X = counts
    adata.var_names_make_unique()
    adata.obs_names_make_unique()
    for name in labels or []:
        column = adata.obs[name]
        adata.obs[name] = column.astype(str).where(column.notna()).astype("category")
    return adata
