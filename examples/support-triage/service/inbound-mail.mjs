import { newestPart, parseSender, plainText, subjectKey, visible } from './mail-text.mjs'

/**
 * What happens to a mail: known conversation, nobody to answer, or a new
 * ticket with a reply, a CRM activity and perhaps a follow-up.
 */
export function createInboundMail({ db, crm, mailer, triage, followUps, log }) {
  async function handle(body) {
    const subject = visible(body.subject)
    const text = plainText(body)
    const mail = {
      messageId: body.messageId,
      sender: parseSender(body.from),
      subject,
      subjectKey: subjectKey(subject),
      fullText: text,
      text: newestPart(text),
    }
    const known = await findTicket(mail)
    if (known) return appendToTicket(known, mail)
    if (!mail.sender) return parkForHuman(mail)
    return openTicket(mail)
  }

  /** The same message delivered twice, or the same sender writing on about an open subject. */
  async function findTicket(mail) {
    const { rows } = await db.query(
      `SELECT id, status FROM tickets
       WHERE message_id = $1
          OR (sender = $2 AND subject_key = $3 AND $3 <> '' AND status <> 'closed' AND created_at > now() - interval '14 days')
       ORDER BY id DESC LIMIT 1`,
      [mail.messageId, mail.sender?.email ?? null, mail.subjectKey],
    )
    return rows[0] ?? null
  }

  async function appendToTicket(ticket, mail) {
    await db.transaction(async (client) => {
      await addNote(client, ticket.id, 'customer', `Wrote again: ${mail.text || '(no text)'}`)
      await client.query('UPDATE tickets SET updated_at = now() WHERE id = $1', [ticket.id])
    })
    return { outcome: 'appended', ticketId: ticket.id }
  }

  async function parkForHuman(mail) {
    const ticketId = await db.transaction(async (client) => {
      const id = await insertTicket(client, mail, null, {
        category: 'other',
        urgency: 'normal',
        sentiment: 'neutral',
        summary: 'No usable sender: nobody to answer.',
        status: 'needs_human',
      })
      await addNote(client, id, 'customer', mail.fullText || '(no text)')
      return id
    })
    return { outcome: 'needs_human', ticketId }
  }

  async function openTicket(mail) {
    const triaged = await triage.classify(mail)
    const before = await findOrCreateCustomer(mail)
    const notes = notesFor(mail, triaged, before)

    const { ticketId, customer } = await db.transaction(async (client) => {
      const customer = await touchCustomer(client, before, triaged.customerChanges)
      const ticketId = await insertTicket(client, mail, customer.id, {
        ...triaged,
        status: triaged.needsHuman || triaged.conflicting ? 'needs_human' : 'open',
      })
      for (const note of notes) await addNote(client, ticketId, note.author, note.body)
      return { ticketId, customer }
    })

    const activityId = await tellCrm(customer, triaged, ticketId)
    const urgent = triaged.urgency === 'high' || triaged.urgency === 'urgent'
    if (urgent) await followUps.schedule({ ticketId, customerId: customer.id, reason: triaged.summary })

    await mailer.reply({
      to: mail.sender.email,
      subject: mail.subject,
      ticketId,
      inReplyTo: mail.messageId,
      text: triaged.reply,
    })
    await db.query('UPDATE tickets SET crm_activity_id = $2, replied_at = now(), updated_at = now() WHERE id = $1', [
      ticketId,
      activityId,
    ])
    log.info({ ticketId, category: triaged.category, urgency: triaged.urgency }, 'ticket opened')
    return {
      outcome: 'ticket_opened',
      ticketId,
      category: triaged.category,
      urgency: triaged.urgency,
      sentiment: triaged.sentiment,
      changed: Object.keys(triaged.customerChanges),
      followUp: urgent,
    }
  }

  async function findOrCreateCustomer(mail) {
    const found = await db.query('SELECT * FROM customers WHERE lower(email) = $1', [mail.sender.email])
    if (found.rows[0]) return found.rows[0]
    const created = await db.query('INSERT INTO customers (email, name) VALUES ($1, $2) RETURNING *', [
      mail.sender.email,
      mail.sender.name,
    ])
    return created.rows[0]
  }

  async function touchCustomer(client, before, changes) {
    const { rows } = await client.query(
      `UPDATE customers
       SET last_contact_at = now(), open_tickets = open_tickets + 1,
           phone = coalesce($2, phone), address = coalesce($3, address), tier = coalesce($4, tier)
       WHERE id = $1
       RETURNING *`,
      [before.id, changes.phone ?? null, changes.address ?? null, changes.tier ?? null],
    )
    // The account may have been merged into another meanwhile: the ticket is opened all the same.
    return rows[0] ?? before
  }

  async function insertTicket(client, mail, customerId, { category, urgency, sentiment, summary, status }) {
    const { rows } = await client.query(
      `INSERT INTO tickets (message_id, customer_id, sender, subject, subject_key, category, urgency, sentiment, status, summary)
       VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
       RETURNING id`,
      [
        mail.messageId,
        customerId,
        mail.sender?.email ?? null,
        mail.subject || '(no subject)',
        mail.subjectKey,
        category,
        urgency,
        sentiment,
        status,
        summary,
      ],
    )
    return rows[0].id
  }

  function addNote(client, ticketId, author, body) {
    return client.query('INSERT INTO ticket_notes (ticket_id, author, body) VALUES ($1, $2, $3)', [
      ticketId,
      author,
      body,
    ])
  }

  /** Keeps the CRM contact in step and logs the conversation there. Resolves to the activity's id. */
  async function tellCrm(customer, triaged, ticketId) {
    let contactId = customer.crm_contact_id
    if (!contactId) {
      const contact =
        (await crm.findContact(customer.email)) ??
        (await crm.createContact({ email: customer.email, name: customer.name }))
      contactId = contact.id
      await db.query('UPDATE customers SET crm_contact_id = $2 WHERE id = $1', [customer.id, contactId])
    }
    if (Object.keys(triaged.customerChanges).length > 0) await crm.updateContact(contactId, triaged.customerChanges)
    const activity = await crm.logActivity(contactId, {
      type: 'support_mail',
      ticketId,
      category: triaged.category,
      urgency: triaged.urgency,
      summary: triaged.summary,
    })
    return activity.id
  }

  return { handle }
}

function notesFor(mail, triaged, customer) {
  const notes = [{ author: 'customer', body: mail.fullText || '(no text)' }]
  for (const issue of triaged.issues) notes.push({ author: 'assistant', body: `${issue.title}: ${issue.detail}` })
  if (triaged.conflicting) {
    notes.push({ author: 'system', body: 'The mail contradicts itself: no change was made to the account.' })
  }
  const quoted = /\bC-\d{4,}\b/.exec(mail.fullText)?.[0]
  if (quoted && quoted !== customer.number) {
    notes.push({ author: 'system', body: `The mail names customer ${quoted}, the sender is ${customer.number}.` })
  }
  return notes
}
