-- The hot path of billing: one function call to reserve, one to settle. Locks are taken in the
-- order hold, cap, wallet. The wallet is the hot row and its lock spans the commit, so callers
-- reserve and settle last in their transaction.

CREATE OR REPLACE FUNCTION billing_account(p_org uuid, p_kind text) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    v_id bigint;
BEGIN
    SELECT id INTO v_id FROM billing_account
        WHERE org_id IS NOT DISTINCT FROM p_org AND kind = p_kind;
    IF v_id IS NULL THEN
        INSERT INTO billing_account (org_id, kind) VALUES (p_org, p_kind)
            ON CONFLICT ON CONSTRAINT account_of_org DO NOTHING;
        SELECT id INTO STRICT v_id FROM billing_account
            WHERE org_id IS NOT DISTINCT FROM p_org AND kind = p_kind;
    END IF;
    RETURN v_id;
END $$;

-- Post one ledger row. Returns false if the same (source, kind, leg) was posted before.
CREATE OR REPLACE FUNCTION billing_post(
    p_debit bigint, p_credit bigint, p_amount bigint, p_kind text,
    p_source uuid, p_leg int, p_occurred timestamptz
) RETURNS boolean
LANGUAGE plpgsql AS $$
BEGIN
    IF p_amount = 0 THEN
        RETURN false;
    END IF;
    INSERT INTO billing_transfer
        (id, debit_id, credit_id, amount_nano, kind, source_id, leg, occurred_at, created_at)
    VALUES (
        md5(p_source::text || ':' || p_kind || ':' || p_leg)::uuid,
        p_debit, p_credit, p_amount, p_kind, p_source, p_leg, p_occurred, clock_timestamp()
    ) ON CONFLICT ON CONSTRAINT transfer_once DO NOTHING;
    RETURN FOUND;
END $$;

-- Add prepaid credit (a top-up or a grant) once per source. Returns whether it was new.
CREATE OR REPLACE FUNCTION billing_credit(
    p_org uuid, p_from text, p_kind text, p_source uuid, p_amount bigint, p_occurred timestamptz
) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
    v_debit bigint := billing_account(NULL, p_from);
    v_credit bigint := billing_account(p_org, 'wallet');
BEGIN
    IF p_amount <= 0 THEN
        RAISE EXCEPTION 'a credit must be positive';
    END IF;
    IF NOT billing_post(v_debit, v_credit, p_amount, p_kind, p_source, 0, p_occurred) THEN
        RETURN false;
    END IF;
    INSERT INTO billing_wallet
        (org_id, prepaid_nano, owed_nano, held_nano, credit_limit_nano,
         stripe_customer_id, stripe_customer_attempt)
        VALUES (p_org, p_amount, 0, 0, 0, '', 0)
        ON CONFLICT (org_id) DO UPDATE
        SET prepaid_nano = billing_wallet.prepaid_nano + p_amount;
    RETURN true;
END $$;

-- Reserve. Returns 'ok', 'funds' or 'budget'; the caller rolls back on anything but 'ok'.
CREATE OR REPLACE FUNCTION billing_reserve(
    p_source uuid, p_org uuid, p_amount bigint,
    p_cap uuid, p_cap_limit bigint, p_month date
) RETURNS text
LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO billing_hold
        (source_id, org_id, amount_nano, state, cap_subject_id, cap_month, created_at)
        VALUES (p_source, p_org, p_amount, 'open', p_cap,
                CASE WHEN p_cap IS NULL THEN NULL ELSE p_month END, clock_timestamp());
    IF p_amount = 0 THEN
        RETURN 'ok';
    END IF;
    IF p_cap IS NOT NULL THEN
        INSERT INTO billing_spendcap (subject_id, month, spent_nano, held_nano)
            VALUES (p_cap, p_month, 0, 0) ON CONFLICT ON CONSTRAINT cap_month DO NOTHING;
        UPDATE billing_spendcap SET held_nano = held_nano + p_amount
            WHERE subject_id = p_cap AND month = p_month
              AND spent_nano + held_nano + p_amount <= p_cap_limit;
        IF NOT FOUND THEN
            RETURN 'budget';
        END IF;
    END IF;
    UPDATE billing_wallet SET held_nano = held_nano + p_amount
        WHERE org_id = p_org
          AND prepaid_nano + credit_limit_nano - owed_nano - held_nano >= p_amount;
    IF NOT FOUND THEN
        RETURN 'funds';
    END IF;
    RETURN 'ok';
END $$;

-- End a hold: capture p_amount of it (0 releases it whole), write the charge and its transfers.
-- p_shares is [{"org_id", "amount_nano", ...}], nearest vendor first; the platform keeps the
-- rest. Returns false, changing nothing, if the hold has ended before: the exactly-once fence.
CREATE OR REPLACE FUNCTION billing_settle(
    p_source uuid, p_vendor uuid, p_version uuid, p_price uuid,
    p_amount bigint, p_lines jsonb, p_shares jsonb, p_occurred timestamptz
) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
    v_hold billing_hold%ROWTYPE;
    v_prepaid bigint := 0;
    v_vendors bigint;
    v_clearing bigint;
    v_share jsonb;
    v_leg int := 0;
BEGIN
    UPDATE billing_hold
        SET state = CASE WHEN p_amount > 0 THEN 'captured' ELSE 'released' END,
            ended_at = clock_timestamp()
        WHERE source_id = p_source AND state = 'open'
        RETURNING * INTO v_hold;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    IF p_amount < 0 OR p_amount > v_hold.amount_nano THEN
        RAISE EXCEPTION 'charge % is not within the hold of %', p_amount, v_hold.amount_nano;
    END IF;
    SELECT COALESCE(sum((s->>'amount_nano')::bigint), 0) INTO v_vendors
        FROM jsonb_array_elements(p_shares) s;
    IF v_vendors > p_amount THEN
        RAISE EXCEPTION 'shares of % exceed the charge of %', v_vendors, p_amount;
    END IF;
    IF v_hold.cap_subject_id IS NOT NULL AND v_hold.amount_nano > 0 THEN
        UPDATE billing_spendcap
            SET held_nano = held_nano - v_hold.amount_nano, spent_nano = spent_nano + p_amount
            WHERE subject_id = v_hold.cap_subject_id AND month = v_hold.cap_month;
    END IF;
    IF v_hold.amount_nano > 0 THEN
        SELECT LEAST(prepaid_nano, p_amount) INTO STRICT v_prepaid
            FROM billing_wallet WHERE org_id = v_hold.org_id FOR UPDATE;
        UPDATE billing_wallet
            SET held_nano = held_nano - v_hold.amount_nano,
                prepaid_nano = prepaid_nano - v_prepaid,
                owed_nano = owed_nano + (p_amount - v_prepaid)
            WHERE org_id = v_hold.org_id;
    END IF;
    INSERT INTO billing_charge
        (source_id, org_id, vendor_id, version_id, price_id, quote_nano, amount_nano,
         prepaid_nano, postpaid_nano, vendors_nano, fee_nano, lines, shares, occurred_at)
    VALUES
        (p_source, v_hold.org_id, p_vendor, p_version, p_price, v_hold.amount_nano, p_amount,
         v_prepaid, p_amount - v_prepaid, v_vendors, p_amount - v_vendors, p_lines, p_shares,
         p_occurred);
    IF p_amount = 0 THEN
        RETURN true;
    END IF;
    v_clearing := billing_account(NULL, 'clearing');
    IF v_prepaid > 0 THEN
        PERFORM billing_post(billing_account(v_hold.org_id, 'wallet'), v_clearing,
                             v_prepaid, 'fund_prepaid', p_source, 0, p_occurred);
    END IF;
    IF p_amount > v_prepaid THEN
        PERFORM billing_post(billing_account(v_hold.org_id, 'receivable'), v_clearing,
                             p_amount - v_prepaid, 'fund_postpaid', p_source, 0, p_occurred);
    END IF;
    FOR v_share IN SELECT * FROM jsonb_array_elements(p_shares) LOOP
        PERFORM billing_post(v_clearing, billing_account((v_share->>'org_id')::uuid, 'payable'),
                             (v_share->>'amount_nano')::bigint, 'share', p_source, v_leg,
                             p_occurred);
        v_leg := v_leg + 1;
    END LOOP;
    PERFORM billing_post(v_clearing, billing_account(NULL, 'revenue'),
                         p_amount - v_vendors, 'fee', p_source, 0, p_occurred);
    RETURN true;
END $$;
