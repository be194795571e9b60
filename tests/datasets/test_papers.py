"""Loaders of the papers' data, on small copies in the published files' layouts."""

import dataclasses
import hashlib
import io
import tarfile
import zipfile

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
import scipy.sparse as sp
from scipy.io import mmwrite

import scmimic as sm
from scmimic.datasets import _papers

SOURCES = [_papers.PBMC68K, _papers.NEURONS20K, _papers.TABULA_MURIS, _papers.SCIPLEX3, _papers.KANG18]
RNG = np.random.default_rng(0)
COUNTS = RNG.poisson(1.0, (6, 5))


@pytest.fixture(autouse=True)
def cache(tmp_path):
    """A cache folder of the test's own."""
    before, sc.settings.datasetdir = sc.settings.datasetdir, tmp_path / "cache"
    yield tmp_path / "cache"
    sc.settings.datasetdir = before


@pytest.fixture
def local(tmp_path):
    folder = tmp_path / "local"
    folder.mkdir()
    return folder


def write_pbmc68k(folder, types=("B", "T", "B", "T", "NK", "T")):
    tar, annotation = (folder / file.name for file in _papers.PBMC68K.files)
    barcodes = [f"AAAC{i}-1" for i in range(6)]
    matrix = io.BytesIO()
    mmwrite(matrix, sp.coo_matrix(COUNTS.T))
    files = {
        "matrix.mtx": matrix.getvalue(),
        "genes.tsv": "".join(f"ENSG{i}\t{name}\n" for i, name in enumerate(["A", "B", "B", "C", "D"])).encode(),
        "barcodes.tsv": "\n".join(barcodes).encode(),
    }
    with tarfile.open(tar, "w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(f"filtered_matrices_mex/hg19/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    table = pd.DataFrame({"TSNE.1": 0.5, "barcodes": barcodes[: len(types)], "celltype": types})
    # the file's order is not the matrix'
    table.iloc[::-1].to_csv(annotation, sep="\t", index=False)
    return tar, annotation


def write_neurons20k(folder):
    file = folder / _papers.NEURONS20K.files[0].name
    matrix = sp.csr_matrix(COUNTS.astype(np.int32))
    with h5py.File(file, "w") as h5:
        group = h5.create_group("mm10")
        group["data"], group["indices"] = matrix.data, matrix.indices.astype(np.int64)
        group["indptr"], group["shape"] = matrix.indptr.astype(np.int64), np.array([5, 6], dtype=np.int32)
        group["barcodes"] = np.array([f"AAAC-{i}" for i in range(6)], dtype="S")
        group["genes"] = np.array([f"ENSMUSG{i}" for i in range(5)], dtype="S")
        group["gene_names"] = np.array(["a", "b", "b", "c", "d"], dtype="S")
    return file


def write_tabula_muris(folder, genes=("Gnai3", "ERCC-00002", "Pbsn", "Cdc45", "H19")):
    archive, annotation = (folder / file.name for file in _papers.TABULA_MURIS.files)
    heart = pd.DataFrame(COUNTS[:4].T, index=["Gnai3", "ERCC-00002", "Pbsn", "Cdc45", "H19"], columns=list("wxyz"))
    lung = pd.DataFrame(COUNTS[4:].T, index=list(genes), columns=list("uv"))
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as files:
        files.writestr("FACS/Lung-counts.csv", lung.to_csv())
        files.writestr("FACS/Heart-counts.csv", heart.to_csv())
        files.writestr("__MACOSX/FACS/._Heart-counts.csv", b"\x00\x05\x16")
    # x is not in the annotation, y has no type
    pd.DataFrame(
        {
            "cell": ["v", "u", "w", "y", "z"],
            "cell_ontology_class": ["fibroblast", "B cell", "fibroblast", None, "B cell"],
            "tissue": ["Lung", "Lung", "Heart", "Heart", "Heart"],
            "mouse.id": "3_39_F",
            "cluster.ids": 7,
        }
    ).to_csv(annotation, index=False)
    return archive, annotation


def write_sciplex3(folder, ensembl="ENSG00000000003"):
    file = folder / _papers.SCIPLEX3.files[0].name
    obs = pd.DataFrame(
        {
            "cell_line": pd.Categorical(["A549", "K562", None, "MCF7", "A549", "K562"]),
            "perturbation": ["control", "Belinostat (PXD101)", "control", None, "nan", "control"],
            "dose_value": [0.0, 10.0, np.nan, 10.0, 10.0, 0.0],
        },
        index=[f"c{i}" for i in range(6)],
    )
    obs["perturbation"] = pd.Categorical(obs["perturbation"])
    var = pd.DataFrame({"ensembl_id": [ensembl, *(f"ENSG{i}" for i in range(4))]}, index=list("abcde"))
    counts = sp.csr_matrix(COUNTS.astype(np.int64))
    for start, stop in zip(counts.indptr, counts.indptr[1:], strict=False):
        # a matrix of triplets has a cell's genes in any order
        counts.indices[start:stop], counts.data[start:stop] = (
            counts.indices[start:stop][::-1].copy(),
            counts.data[start:stop][::-1].copy(),
        )
    ad.AnnData(counts, obs=obs, var=var).write_h5ad(file)
    return file


def write_kang18(folder, counts=COUNTS, **columns):
    file = folder / _papers.KANG18.files[0].name
    obs = {
        "label": pd.Categorical(["ctrl", "stim", "stim", "ctrl", "ctrl", "stim"]),
        "cell_type": pd.Categorical(list("TTBBBT")),
        "replicate": pd.Categorical(["patient_101", "patient_1015"] * 3),
        "cluster": np.arange(6),
    } | columns
    obs = pd.DataFrame({k: v for k, v in obs.items() if v is not None}, index=[f"c{i}" for i in range(6)])
    adata = ad.AnnData(sp.csc_matrix(np.asarray(counts, dtype=np.float32)), obs=obs)
    adata.var_names = list("abcde")
    adata.write_h5ad(file)
    return file


WRITERS = {
    "pbmc68k": write_pbmc68k,
    "neurons20k": write_neurons20k,
    "tabula_muris": write_tabula_muris,
    "sciplex3": write_sciplex3,
    "kang18": write_kang18,
}


def load(name, path=None):
    return getattr(sm.datasets, name)(path=path)


@pytest.mark.parametrize("name", WRITERS)
def test_raw_counts_and_names_that_occur_once(name, local, cache):
    WRITERS[name](local)
    adata = load(name, local)
    assert sp.isspmatrix_csr(adata.X)
    assert adata.X.dtype == np.float32
    assert sp.csr_matrix((adata.X.data, adata.X.indices, adata.X.indptr)).has_sorted_indices
    assert (adata.X.data % 1 == 0).all()
    assert adata.var_names.is_unique and adata.obs_names.is_unique
    assert not cache.exists()


def test_pbmc68k_has_its_types_by_barcode(local):
    write_pbmc68k(local)
    adata = sm.datasets.pbmc68k(path=local)
    np.testing.assert_array_equal(adata.X.toarray(), COUNTS)
    assert adata.obs["cell_type"].tolist() == ["B", "T", "B", "T", "NK", "T"]
    assert adata.obs["cell_type"].dtype == "category"
    assert adata.var_names.tolist() == ["A", "B", "B-1", "C", "D"]
    assert adata.var["gene_ids"].tolist() == [f"ENSG{i}" for i in range(5)]


def test_pbmc68k_refuses_cells_without_a_type(local):
    write_pbmc68k(local, types=("B", "T", "B", "T"))
    with pytest.raises(ValueError, match="2 cells of .* have no type"):
        sm.datasets.pbmc68k(path=local)


def test_neurons20k_reads_the_file_itself(local):
    adata = sm.datasets.neurons20k(path=write_neurons20k(local))
    np.testing.assert_array_equal(adata.X.toarray(), COUNTS)
    assert adata.var_names.tolist() == ["a", "b", "b-1", "c", "d"]
    assert adata.var["gene_ids"].tolist() == [f"ENSMUSG{i}" for i in range(5)]


@pytest.mark.parametrize("at_once", [1, 3, 2_000])
def test_tabula_muris_has_typed_cells_without_spike_ins(local, monkeypatch, at_once):
    monkeypatch.setattr(_papers, "_GENES_AT_ONCE", at_once)
    write_tabula_muris(local)
    adata = sm.datasets.tabula_muris(path=local)
    assert adata.var_names.tolist() == ["Gnai3", "Pbsn", "Cdc45", "H19"]
    assert adata.obs_names.tolist() == ["w", "z", "u", "v"]
    np.testing.assert_array_equal(adata.X.toarray(), COUNTS[[0, 3, 4, 5]][:, [0, 2, 3, 4]])
    assert adata.obs["cell_type"].tolist() == ["fibroblast", "B cell", "B cell", "fibroblast"]
    assert adata.obs["tissue"].tolist() == ["Heart", "Heart", "Lung", "Lung"]
    assert list(adata.obs) == ["cell_type", "tissue", "mouse.id"]


def test_tabula_muris_refuses_an_archive_of_other_cells(local):
    _, annotation = write_tabula_muris(local)
    pd.concat([pd.read_csv(annotation), pd.DataFrame({"cell": ["q"], "cell_ontology_class": ["B cell"]})]).to_csv(
        annotation, index=False
    )
    with pytest.raises(ValueError, match="1 cells of .* have no counts .* such as 'q'"):
        sm.datasets.tabula_muris(path=local)


def test_tabula_muris_refuses_different_genes(local):
    write_tabula_muris(local, genes=("Gnai3", "ERCC-00002", "Pbsn", "H19", "Cdc45"))
    with pytest.raises(ValueError, match="different genes"):
        sm.datasets.tabula_muris(path=local)


def test_tabula_muris_sees_a_damaged_archive(local):
    archive, _ = write_tabula_muris(local)
    content = bytearray(archive.read_bytes())
    content[60] ^= 0xFF
    archive.write_bytes(content)
    with pytest.raises((zipfile.BadZipFile, zipfile.zlib.error)):
        sm.datasets.tabula_muris(path=local)


def test_sciplex3_has_cells_of_a_line_and_a_compound(local):
    adata = sm.datasets.sciplex3(path=write_sciplex3(local))
    assert adata.obs_names.tolist() == ["c0", "c1", "c5"]
    np.testing.assert_array_equal(adata.X.toarray(), COUNTS[[0, 1, 5]])
    assert adata.obs["cell_type"].tolist() == ["A549", "K562", "K562"]
    assert adata.obs["condition"].cat.categories.tolist() == ["Belinostat (PXD101)", "control"]
    assert adata.obs["dose_value"].tolist() == [0.0, 10.0, 0.0]


def test_sciplex3_refuses_shifted_genes(local):
    with pytest.raises(ValueError, match="shifted by one"):
        sm.datasets.sciplex3(path=write_sciplex3(local, ensembl="id gene_short_name"))


def test_kang18_has_conditions_types_and_donors(local):
    adata = sm.datasets.kang18(path=write_kang18(local))
    np.testing.assert_array_equal(adata.X.toarray(), COUNTS)
    assert adata.obs["condition"].tolist() == [
        *("control", "stimulated", "stimulated"),
        *("control", "control", "stimulated"),
    ]
    assert adata.obs["cell_type"].tolist() == list("TTBBBT")
    assert adata.obs["donor"].tolist() == ["patient_101", "patient_1015"] * 3
    assert set(adata.obs) == {"condition", "cell_type", "donor", "cluster"}


def test_a_copy_with_our_names_is_taken_as_it_is(local):
    file = write_kang18(local, label=None, replicate=None, condition=["control", "stimulated"] * 3)
    adata = sm.datasets.kang18(path=file)
    assert adata.obs["condition"].tolist() == ["control", "stimulated"] * 3
    assert "donor" not in adata.obs


def test_a_missing_column_is_named(local):
    with pytest.raises(ValueError, match="no column 'label'"):
        sm.datasets.kang18(path=write_kang18(local, label=None))


def test_what_is_no_counts_is_refused(local):
    with pytest.raises(ValueError, match="published file"):
        sm.datasets.kang18(path=write_kang18(local, counts=COUNTS / 3))


@pytest.mark.parametrize("name", WRITERS)
def test_a_missing_local_copy_names_the_file_and_where_to_get_it(name, local):
    source = next(source for source in SOURCES if source.name == name)
    with pytest.raises(FileNotFoundError) as caught:
        load(name, local)
    assert all(file.name in str(caught.value) for file in source.files)
    assert source.page in str(caught.value)


@pytest.mark.parametrize("name", ["pbmc68k", "tabula_muris"])
def test_one_file_of_two_is_not_enough(name, local):
    first, second = WRITERS[name](local)
    second.unlink()
    with pytest.raises(FileNotFoundError, match=second.name):
        load(name, local)
    with pytest.raises(FileNotFoundError, match="a folder that holds both"):
        load(name, first)


def serve(monkeypatch, name, folder, **changes):
    """Let a data set's URLs be files of `folder`, with their checksums."""
    attribute = name.upper()
    source = getattr(_papers, attribute)
    files = []
    for file in source.files:
        written = folder / file.name
        algorithm = (file.checksum or "").split(":")[0]
        digest = f"{algorithm}:{hashlib.new(algorithm, written.read_bytes()).hexdigest()}" if algorithm else None
        files.append(dataclasses.replace(file, **({"url": written.as_uri(), "checksum": digest} | changes)))
    monkeypatch.setattr(_papers, attribute, dataclasses.replace(source, files=tuple(files)))


@pytest.mark.parametrize("name", WRITERS)
def test_files_are_downloaded_once(name, local, cache, monkeypatch):
    written = WRITERS[name](local)
    written = written if isinstance(written, tuple) else (written,)
    serve(monkeypatch, name, local)
    expected = load(name, local)
    first = load(name)
    for file in written:
        assert (cache / name / file.name).read_bytes() == file.read_bytes()
        file.unlink()
    second = load(name)
    for adata in (first, second):
        assert (adata.X != expected.X).nnz == 0
        pd.testing.assert_frame_equal(adata.obs, expected.obs)
    assert sorted(path.name for path in (cache / name).iterdir()) == sorted(file.name for file in written)


@pytest.mark.parametrize("algorithm", ["sha256", "md5"])
def test_a_changed_file_is_refused_and_not_kept(local, cache, monkeypatch, algorithm):
    write_kang18(local)
    serve(monkeypatch, "kang18", local, checksum=f"{algorithm}:{'0' * 32}")
    with pytest.raises(ValueError, match=rf"checksum is {algorithm}:\w+, not {algorithm}:0+.*path=\.\.\."):
        sm.datasets.kang18()
    assert not (cache / "kang18").exists()


def test_an_empty_answer_is_refused_and_not_kept(local, cache, monkeypatch):
    (local / _papers.TABULA_MURIS.files[0].name).touch()
    (local / _papers.TABULA_MURIS.files[1].name).touch()
    serve(monkeypatch, "tabula_muris", local)
    with pytest.raises(ConnectionError, match="gave 0 bytes"):
        sm.datasets.tabula_muris()
    assert not (cache / "tabula_muris").exists()


@pytest.mark.parametrize("name", WRITERS)
def test_without_a_connection_the_error_says_what_to_do(name, local, cache, monkeypatch):
    WRITERS[name](local)
    # nothing listens at this port
    monkeypatch.setenv("no_proxy", "*")
    serve(monkeypatch, name, local, url="http://127.0.0.1:9/file")
    source = next(source for source in SOURCES if source.name == name)
    with pytest.raises(ConnectionError) as caught:
        load(name)
    assert f"sm.datasets.{name}(path=...)" in str(caught.value)
    assert source.page in str(caught.value)
    assert source.files[0].name in str(caught.value)
    assert not (cache / name).exists()


def test_an_answer_cut_short_is_refused(local, cache, monkeypatch):
    file = write_kang18(local)
    serve(monkeypatch, "kang18", local, checksum=None)

    class Cut(io.BytesIO):
        headers = {"Content-Length": str(file.stat().st_size)}

    monkeypatch.setattr("scmimic.datasets._remote.urlopen", lambda *args, **kwargs: Cut(file.read_bytes()[:-1]))
    with pytest.raises(ConnectionError, match=f"gave {file.stat().st_size - 1} bytes in the place of"):
        sm.datasets.kang18()
    assert not (cache / "kang18").exists()


def test_sources_are_reached_safely():
    for source in SOURCES:
        assert hasattr(sm.datasets, source.name)
        for file in source.files:
            assert file.url.startswith("https://")
            if file.checksum is not None:
                algorithm, digest = file.checksum.split(":")
                assert len(bytes.fromhex(digest)) == hashlib.new(algorithm).digest_size
