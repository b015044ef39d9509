"""What the REST side says about a stock, taken from the same book and tape as the stream's records.

Every value is a string, as KIS sends it; keys stand in the order of the protocol reference (section 11).
"""

from __future__ import annotations

from observer.simulator.market import Issue
from observer.simulator.tape import Bar, Moment, Tape, Told, sign_code

# What an inquire-price answer carries besides the market: constant here, plausible everywhere. Documented but not sent by
# KIS, and so not here either: new_hgpr_lwpr_cls_code, apprch_rate.
_PRICE_KEYS_TEXT = (
    "iscd_stat_cls_code marg_rate rprs_mrkt_kor_name bstp_kor_isnm temp_stop_yn oprc_rang_cont_yn clpr_rang_cont_yn crdt_able_yn "
    "grmn_rate_cls_code elw_pblc_yn stck_prpr prdy_vrss prdy_vrss_sign prdy_ctrt acml_tr_pbmn acml_vol prdy_vrss_vol_rate stck_oprc "
    "stck_hgpr stck_lwpr stck_mxpr stck_llam stck_sdpr wghn_avrg_stck_prc hts_frgn_ehrt frgn_ntby_qty pgtr_ntby_qty pvt_scnd_dmrs_prc "
    "pvt_frst_dmrs_prc pvt_pont_val pvt_frst_dmsp_prc pvt_scnd_dmsp_prc dmrs_val dmsp_val cpfn rstc_wdth_prc stck_fcam stck_sspr "
    "aspr_unit hts_deal_qty_unit_val lstn_stcn hts_avls per pbr stac_month vol_tnrt eps bps d250_hgpr d250_hgpr_date "
    "d250_hgpr_vrss_prpr_rate d250_lwpr d250_lwpr_date d250_lwpr_vrss_prpr_rate stck_dryy_hgpr dryy_hgpr_vrss_prpr_rate dryy_hgpr_date "
    "stck_dryy_lwpr dryy_lwpr_vrss_prpr_rate dryy_lwpr_date w52_hgpr w52_hgpr_vrss_prpr_ctrt w52_hgpr_date w52_lwpr "
    "w52_lwpr_vrss_prpr_ctrt w52_lwpr_date whol_loan_rmnd_rate ssts_yn stck_shrn_iscd fcam_cnnm cpfn_cnnm frgn_hldn_qty vi_cls_code "
    "ovtm_vi_cls_code last_ssts_cntg_qty invt_caful_yn mrkt_warn_cls_code short_over_yn sltr_yn mang_issu_cls_code"
)
PRICE_KEYS = tuple(_PRICE_KEYS_TEXT.split())
FACE_VALUE = 100
TEXTS = {
    "iscd_stat_cls_code": "55",
    "marg_rate": "20.00",
    "rprs_mrkt_kor_name": "KOSPI200",
    "bstp_kor_isnm": "전기·전자",
    "crdt_able_yn": "Y",
    "grmn_rate_cls_code": "40",
    "hts_deal_qty_unit_val": "1",
    "stac_month": "12",
    "ssts_yn": "Y",
    "fcam_cnnm": f"{FACE_VALUE}",
    "mrkt_warn_cls_code": "00",
    "stck_fcam": f"{FACE_VALUE}",
    "per": "12.35",
    "pbr": "1.21",
    "hts_frgn_ehrt": "51.02",
}


def multi_row(issue: Issue, tape: Tape) -> dict[str, str]:
    """One row of `intstock-multprice` (29 keys)."""
    book, price = issue.book, tape.price
    return {
        "kospi_kosdaq_cls_name": "KOSPI",
        "mrkt_trtm_cls_name": "",
        "hour_cls_code": "0",
        "inter_shrn_iscd": issue.symbol,
        "inter_kor_isnm": issue.name,
        "inter2_prpr": str(price),
        "inter2_prdy_vrss": str(price - tape.base),
        "prdy_vrss_sign": tape.sign(price),
        "prdy_ctrt": tape.change_percent(price),
        "acml_vol": str(tape.volume),
        "inter2_oprc": str(tape.open),
        "inter2_hgpr": str(tape.high),
        "inter2_lwpr": str(tape.low),
        "inter2_llam": str(tape.low_limit),
        "inter2_mxpr": str(tape.high_limit),
        "inter2_askp": str(book.ask),
        "inter2_bidp": str(book.bid),
        "seln_rsqn": str(book.ask_quantities[0]),
        "shnu_rsqn": str(book.bid_quantities[0]),
        "total_askp_rsqn": str(book.ask_total),
        "total_bidp_rsqn": str(book.bid_total),
        "acml_tr_pbmn": str(tape.turnover),
        "inter2_prdy_clpr": str(tape.base),
        "oprc_vrss_hgpr_rate": f"{(tape.high - tape.open) / tape.open * 100:.2f}",
        "intr_antc_cntg_vrss": "0",
        "intr_antc_cntg_vrss_sign": "3",
        "intr_antc_cntg_prdy_ctrt": "0.00",
        "intr_antc_vol": "0",
        "inter2_sdpr": str(tape.base),
    }


def price_output(issue: Issue, tape: Tape, moment: Moment) -> dict[str, str]:
    """The output of `inquire-price` (80 keys)."""
    price, base = tape.price, tape.base
    live = {
        "stck_prpr": str(price),
        "prdy_vrss": str(price - base),
        "prdy_vrss_sign": tape.sign(price),
        "prdy_ctrt": tape.change_percent(price),
        "acml_tr_pbmn": str(tape.turnover),
        "acml_vol": str(tape.volume),
        "prdy_vrss_vol_rate": f"{tape.volume / tape.previous * 100:.2f}",
        "stck_oprc": str(tape.open),
        "stck_hgpr": str(tape.high),
        "stck_lwpr": str(tape.low),
        "stck_mxpr": str(tape.high_limit),
        "stck_llam": str(tape.low_limit),
        "stck_sdpr": str(base),
        "wghn_avrg_stck_prc": f"{tape.average():.2f}",
        "rstc_wdth_prc": str(tape.high_limit - base),
        "aspr_unit": str(issue.book.tick),
        "lstn_stcn": str(issue.listed),
        "hts_avls": str(issue.listed * price // 100_000_000),
        "vol_tnrt": f"{tape.volume / issue.listed * 100:.2f}",
        "stck_shrn_iscd": issue.symbol,
    }
    return {key: live.get(key) or _constant(key, base, moment) for key in PRICE_KEYS}


def _constant(key: str, base: int, moment: Moment) -> str:
    if key in TEXTS:
        return TEXTS[key]
    if key.endswith(("_yn", "vi_cls_code", "mang_issu_cls_code")):
        return "N"
    if key.endswith("_date"):
        return moment.date
    if key.endswith(("_rate", "_ctrt")):
        return "0.00"
    if key.endswith(("hgpr", "lwpr", "_prc", "_val", "stck_sspr")):
        return str(base)
    return "" if key == "cpfn_cnnm" else "0"


def conclusion_rows(tape: Tape, until_second: int, rows: int) -> list[dict[str, str]]:
    """Rows of `inquire-time-itemconclusion`: the newest trades at or before a second of the day, newest first."""
    return [_conclusion_row(tape, told) for told in tape.told_until(until_second, rows)]


def conclusion_head(tape: Tape) -> dict[str, str]:
    """`output1` of `inquire-time-itemconclusion`."""
    return {
        "stck_prpr": str(tape.price),
        "prdy_vrss": str(tape.price - tape.base),
        "prdy_vrss_sign": tape.sign(tape.price),
        "prdy_ctrt": tape.change_percent(tape.price),
        "acml_vol": str(tape.volume),
        "prdy_vol": str(tape.previous),
        "rprs_mrkt_kor_name": "KOSPI200",
    }


def bar_rows(tape: Tape, until_second: int, now: Moment, rows: int) -> list[dict[str, str]]:
    """Minute bars, the newest that of a second of the day, newest first, with KIS's traps (kis-protocol 5.8).

    A minute without trades, the future included, is a flat bar of the price before it; the running minute without trades
    shows the volume of the minute before.
    """
    bars = tape.bars()
    found: list[tuple[int, Bar]] = []
    for minute in range(min(bars, default=until_second), until_second // 60 + 1):
        bar = bars.get(minute)
        if bar is None:
            last = found[-1][1]
            bar = Bar(last.close, last.close, last.close, last.close, last.quantity if minute == now.second // 60 else 0, last.turnover)
        found.append((minute, bar))
    return [_bar_row(tape, minute, bar) for minute, bar in reversed(found[-rows:])]


def bars_head(issue: Issue, tape: Tape) -> dict[str, str]:
    """`output1` of `inquire-time-itemchartprice` and `inquire-time-dailychartprice`."""
    return {
        "prdy_vrss": str(tape.price - tape.base),
        "prdy_vrss_sign": tape.sign(tape.price),
        "prdy_ctrt": tape.change_percent(tape.price),
        "stck_prdy_clpr": str(tape.base),
        "acml_vol": str(tape.volume),
        "acml_tr_pbmn": str(tape.turnover),
        "hts_kor_isnm": issue.name,
        "stck_prpr": str(tape.price),
    }


def _bar_row(tape: Tape, minute: int, bar: Bar) -> dict[str, str]:
    return {
        "stck_bsop_date": tape.date,
        "stck_cntg_hour": _hms(minute * 60),
        "stck_prpr": str(bar.close),
        "stck_oprc": str(bar.open),
        "stck_hgpr": str(bar.high),
        "stck_lwpr": str(bar.low),
        "cntg_vol": str(bar.quantity),
        "acml_tr_pbmn": str(bar.turnover),
    }


def _hms(second: int) -> str:
    return f"{second // 3600:02d}{second // 60 % 60:02d}{second % 60:02d}"


def _conclusion_row(tape: Tape, told: Told) -> dict[str, str]:
    return {
        "stck_cntg_hour": _hms(told.second),
        "stck_prpr": str(told.price),
        "prdy_vrss": str(told.price - tape.base),
        "prdy_vrss_sign": sign_code(told.price - tape.base),
        "prdy_ctrt": tape.change_percent(told.price),
        "askp": str(told.ask),
        "bidp": str(told.bid),
        "tday_rltv": f"{told.strength:.2f}",
        "acml_vol": str(told.volume),
        "cnqn": str(told.quantity),
    }
